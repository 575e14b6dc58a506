"""The recommendation model, from features to kernel: pctr, and pcvr given a click.

``network`` holds the numbers and publishes them, ``kernels`` scores, ``calibration`` and ``scores``
say what a score is worth, ``evaluation`` and ``open_bandit`` judge on logs. Only ``training*`` and
``export`` import torch, lightning or onnx, and no serving process imports them.
"""
