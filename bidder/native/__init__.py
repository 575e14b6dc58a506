"""The native path: bytes in, bytes out, in kernels; what it does not understand goes to Python.

A bid request of the common kind is answered without an object being made: the reader turns its
bytes into the records that `bidder.edge` would make (`kernels_scan`, `kernels_read`), the same
decision kernel decides, and the renderer writes the bytes that `bidder.answer` would. The default
path is the complete one and the slow twin of this: the reader either gives exactly its result or
bails (`wire.Bail`) before anything outside its own scratch was written.

Rules that are written once, in Python, are not written again here: verdicts over consent strings,
supply chains and native requests are remembered per distinct text (`reader`), and a text that was
not seen yet is one more reason to bail.
"""
