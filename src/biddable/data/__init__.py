"""Turn rows of a file into batches of ids: read, render, encode, batch.

The path: ``readers`` (rows to conversations), ``templates`` (to text with a learned flag),
``encoding`` (to ids and their mask), ``batching`` (to tensors). Import from those modules; this one
stays empty so that reading a file does not load torch.
"""
