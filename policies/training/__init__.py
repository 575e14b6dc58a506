"""Where policies are trained and periods are run at scale: the one room that may import Ray.

Nothing that serves imports it; what it makes leaves as files (an ONNX policy, a table of results).
"""
