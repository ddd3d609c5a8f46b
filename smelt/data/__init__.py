"""Turn the files people have into the arrays a model trains on, one plain step after another.

records (the typed rows) <- readers (files to values) <- formats (values to rows); then packing (token lists to
fixed rows), shards (token files on disk) and order (which row comes next). Nothing here imports torch: the whole
package runs where only numpy and pyarrow are installed, so data can be prepared on another machine.
"""
