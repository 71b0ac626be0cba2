"""2D3MF: frozen features of a face and a voice, fused in the middle (github.com/aiden200/2D3MF).

* `backbones/`: the networks that turn frames or sound into features, under their published parameter names.
* `network.py`: what is trained on the features.
"""
