"""`import smelt` is instant: its functions are imported when they are first used."""

import subprocess
import sys

import pytest

import smelt


def test_import_brings_no_torch():
    code = "import sys, smelt; smelt.__version__; dir(smelt); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_functions_are_found_and_others_are_not():
    assert callable(smelt.load) and callable(smelt.save) and callable(smelt.load_tokenizer)
    assert set(dir(smelt)) == set(smelt.__all__)
    with pytest.raises(AttributeError, match="module 'smelt' has no attribute 'lode'"):
        _ = smelt.lode
