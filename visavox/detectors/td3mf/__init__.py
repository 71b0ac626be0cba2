"""2D3MF: frozen features of a face and a voice, fused in the middle (github.com/aiden200/2D3MF).

* `backbones/`: the networks that turn frames or sound into features, under their published parameter names.
* `features.py`: the features of a bundle, and the file that keeps them.
* `network.py`: what is trained on the features.
* `detector.py`: both as a detector like the others.
"""
