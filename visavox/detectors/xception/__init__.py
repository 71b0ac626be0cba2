"""Xception over faces, Xception over mel spectrograms, and their fusion.

video, audio   the two detectors, trained by train.py with configs/xception_video.json and _audio.json
fusion         the equations, as functions of numbers
evidence       what both say of a clip, fused segment by segment
scorer         both detectors as one `Scorer`, and a session of one clip under changing settings
"""
