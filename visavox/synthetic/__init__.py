"""Talking faces made from nothing, genuine and forged, for the demo and the tests.

A painted face moves its lips to a formant-synthesised voice (`clips.render`); `fakes.forge` makes the four kinds of fake
from it, and `dataset.make_dataset` a folder of MP4 files with labels. The same arguments give the same bytes. Results on
these clips show that the machinery works. They say nothing about real deepfakes.

    visavox synthetic --output DIR --identities 32 --clips 8 --seed 0
"""
