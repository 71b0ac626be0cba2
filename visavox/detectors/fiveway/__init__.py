"""Five branches and one calibrated verdict: a cheap patch gate, pictures, their course in time, sound, and how both agree.

tiny       patches of faces, and the gate that lets clips through early
visual     single faces
temporal   the visual branch's features in time
audio      constant-Q cepstra
sync       windows of mouths against windows of sound
fusion     named features of any branches or detectors -> logistic regression -> temperature
"""
