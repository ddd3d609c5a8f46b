"""Token shards come back as they were written, and nothing altered gets in."""

import json
from dataclasses import replace

import numpy as np
import pytest

from smelt.core.errors import DataError
from smelt.core.storage import seal
from smelt.data.packing import pack_stream
from smelt.data.shards import TokenShards, batches, source_fingerprints, write_shards

TEXTS = ["hello", "", "wörld", "春"]


class Bytes:
    """A byte tokenizer with one end token, enough of one to write shards."""

    fingerprint = "f" * 64

    def __init__(self, vocab_size=257, offset=0):
        self.vocab_size, self.offset = vocab_size, offset

    def encode_to_array(self, texts, *, end_id):
        documents = [[byte + self.offset for byte in text.encode()] + [end_id] for text in texts]
        return np.array([i for ids in documents for i in ids], dtype=np.uint32), np.cumsum(
            [len(ids) for ids in documents]
        )


def write(folder, texts=TEXTS, **settings):
    return write_shards(folder, texts, Bytes(**settings), end_id=256, sources={"a.txt": "0" * 64})


def fault(folder, **settings):
    with pytest.raises(DataError) as caught:
        TokenShards.open(folder, **settings)
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value).replace(str(folder), "DIR")


def test_round_trip(tmp_path):
    meta = write(tmp_path / "shards")
    shards = TokenShards.open(tmp_path / "shards", tokenizer_fingerprint="f" * 64, verify=True)
    assert shards.meta == meta
    assert (meta.dtype, meta.vocab_size, meta.num_documents, meta.num_tokens) == ("<u2", 257, 4, 5 + 0 + 6 + 3 + 4)
    assert (meta.num_text_bytes, meta.sources) == (14, {"a.txt": "0" * 64})
    assert [bytes(shards.document(i)[:-1].tolist()).decode() for i in range(4)] == TEXTS
    assert shards.text_bytes.tolist() == [5, 0, 6, 3]
    assert (tmp_path / "shards" / "tokens-00000.bin").read_bytes()[:4] == b"h\0e\0"  # little-endian, two bytes an id
    assert isinstance(shards.files[0], np.memmap)


def test_large_vocabulary_takes_four_bytes(tmp_path):
    write(tmp_path / "shards", vocab_size=2**16 + 1, offset=2**16 - 255)
    shards = TokenShards.open(tmp_path / "shards", verify=True)
    assert shards.meta.dtype == "<u4" and shards.read(0, 1).tolist() == [2**16 - 255 + ord("h")]
    assert write(tmp_path / "shards", vocab_size=2**16).dtype == "<u2"  # and an old directory is replaced


def test_reads_across_files(tmp_path, monkeypatch):
    monkeypatch.setattr("smelt.data.shards.batches", lambda texts: ([text] for text in texts))
    meta = write_shards(tmp_path / "s", ["abc", "de", "f", "ghij"], Bytes(), end_id=256, sources={}, max_file_tokens=5)
    shards = TokenShards.open(tmp_path / "s", verify=True)
    assert meta.tokens_per_file == (7, 7)
    stream = [*b"abc", 256, *b"de", 256, *b"f", 256, *b"ghij", 256]
    for start in range(15):
        for stop in range(start, 15):
            assert shards.read(start, stop).tolist() == stream[start:stop]
    packed = pack_stream(shards, 4).take([0, 1, 2])
    assert packed.ids.ravel().tolist() == stream[:12]
    assert packed.segments.tolist() == [[1, 1, 1, 2], [1, 1, 2, 2], [1, 1, 1, 1]]


def test_batches_bound_memory():
    assert list(batches(["aaa", "b", "cc", "d"], max_characters=4)) == [["aaa"], ["b", "cc"], ["d"]]


def test_write_refuses_nothing_and_leaves_nothing(tmp_path):
    with pytest.raises(DataError, match="s: no text to write"):
        write(tmp_path / "s", texts=[])
    with pytest.raises(DataError, match="texts 1 to 4: token id 256 at offset 5 is beyond the vocabulary"):
        write(tmp_path / "s", vocab_size=256)
    assert list(tmp_path.iterdir()) == []


def test_other_tokenizer(tmp_path):
    write(tmp_path / "s")
    text = fault(tmp_path / "s", tokenizer_fingerprint="0" * 64)
    assert text.startswith("DIR: made with tokenizer ffffffffffff, not 000000000000\naccepted: shards and model with")


def test_missing_directory(tmp_path):
    write(tmp_path / "shards")
    assert "DIR: no such directory. Did you mean 'shards'?" in fault(tmp_path / "shrds")
    (tmp_path / "empty").mkdir()
    assert "no manifest.json" in fault(tmp_path / "empty")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text("{}")
    seal(tmp_path / "other")
    assert fault(tmp_path / "other").startswith("DIR: holds no token shards\naccepted: a directory that")


@pytest.mark.parametrize("name", ["tokens-00000.bin", "document_ends.bin", "document_bytes.bin", "shards.json"])
def test_damage_is_found(tmp_path, name):
    write(tmp_path / "s")
    path = tmp_path / "s" / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    size = (
        f"DIR/{name} has {len(whole) - 1:,} bytes; the manifest says {len(whole):,} bytes\ntry: write the shards again"
    )
    assert fault(tmp_path / "s").startswith(size)
    path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    assert "does not match its SHA-256" in fault(tmp_path / "s", verify=True)
    path.unlink()
    assert fault(tmp_path / "s").startswith(f"DIR/{name} is missing")


def reseal(folder, **changes):
    """Change what shards.json says and seal the directory again, as a faulty writer would."""
    values = json.loads((folder / "shards.json").read_text())
    (folder / "shards.json").write_text(json.dumps(values | changes))
    seal(folder)


def test_parts_that_disagree(tmp_path):
    write(tmp_path / "s")
    (tmp_path / "s" / "shards.json").write_text((tmp_path / "s" / "shards.json").read_text().replace("257", "258"))
    assert "shards.json: its content does not match its SHA-256" in fault(tmp_path / "s")  # also without verify
    reseal(tmp_path / "s", version=2)
    assert fault(tmp_path / "s").startswith("DIR: shards of version 2\naccepted: version 1\n")
    reseal(tmp_path / "s", version=1, num_documents=3)
    assert "document_ends.bin: 32 bytes do not hold 3 numbers of type <i8" in fault(tmp_path / "s")
    reseal(tmp_path / "s", num_documents=4, num_tokens=17)
    assert "DIR: its files disagree about the number of tokens" in fault(tmp_path / "s")
    reseal(tmp_path / "s", num_tokens=18, vocab_size=256)
    TokenShards.open(tmp_path / "s")
    text = fault(tmp_path / "s", verify=True)
    assert text.startswith(
        "DIR/tokens-00000.bin: token id 256 at offset 5 is beyond the vocabulary\naccepted: ids below 256"
    )


def test_document_ends_out_of_order(tmp_path):
    write(tmp_path / "s")
    ends = np.fromfile(tmp_path / "s" / "document_ends.bin", dtype="<i8")
    ends[[0, 1]] = ends[[1, 0]]
    ends.tofile(tmp_path / "s" / "document_ends.bin")
    seal(tmp_path / "s")
    assert "document_ends.bin: document ends are not in ascending order" in fault(tmp_path / "s", verify=True)


def test_source_fingerprints(tmp_path):
    for name in ("a/x.txt", "a/b/y.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("hello")
    sha = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert source_fingerprints(tmp_path / "a") == {"b/y.txt": sha, "x.txt": sha}
    assert source_fingerprints(tmp_path / "a" / "x.txt") == {"x.txt": sha}


def test_meta_is_a_value(tmp_path):
    meta = write(tmp_path / "s")
    assert replace(meta, version=1) == meta
