import json

import pytest

from smelt.core.errors import ResourceError
from smelt.core.extras import available, need


def test_an_installed_module_is_returned() -> None:
    assert need("json", extra="report") is json
    assert need("json.decoder", extra="report").JSONDecoder is json.JSONDecoder


def test_a_missing_module_comes_with_its_command() -> None:
    assert not available("absent_module")
    with pytest.raises(ResourceError) as caught:
        need("absent_module.part", extra="scale")
    assert str(caught.value) == (
        "this needs the package 'absent_module.part', which is not installed\ntry: pip install 'smelt-lm[scale]'"
    )
