"""Text to ids and back: byte-level BPE, trained, applied and written in the Hugging Face format.

Reading order: `base` (what a tokenizer is), `bytelevel` and `pretokenize` (bytes, and the words merges stay inside),
`merging` and `bpe` (encoding), `bpe_train` (learning the merges), `tokenizer_json` and `formats` (files), `chat`
(messages to ids and a loss mask), `stream` (ids to text while they arrive). Nothing here imports torch.
"""
