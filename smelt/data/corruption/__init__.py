"""Make something to predict out of plain tokens: one file a way to hide, reorder or pair them.

    masked              the cat sat        -> the [MASK] sat                    predict: cat, in its place
    span                the cat sat down   -> the <X> down                      predict: <X> cat sat
    blank               the cat sat down   -> the [MASK] down | <S> cat sat     predict: cat sat <E>
    prefix              the cat sat down   -> the cat (seen both ways) | sat    predict: sat down
    unilm               one of four ways to look at a masked text
    fill_in_the_middle  the cat sat down   -> <P> the <S> down <M> cat sat      predict all of it
    pairs               two halves         -> do they follow each other, or stand in this order?

Each is a pure function of tokens and a random generator, and the generator follows from (seed, epoch, index) alone, so
a run that is resumed sees the very same draws. None needs a loss of its own: they end in ids and labels.
"""
