"""Word vectors from scratch: skip-gram, CBOW, fastText and GloVe, small baselines for every larger model.

`train` turns a `corpus` into a `WordVectors` (`model`): the obvious steps are in `reference`, the compiled ones in
`kernels`, and a test holds them equal. `text_file` reads and writes word2vec's text format. No torch.
"""
