"""The sizes of the gated T5, which v1.1 and mT5 share; their heads have 64 numbers."""

from smelt.models.families.base import Shape

GATED = {
    "small": Shape(32_128, 512, 8, 6, 512, None, 1024, False),
    "base": Shape(32_128, 768, 12, 12, 512, None, 2048, False),
    "large": Shape(32_128, 1024, 24, 16, 512, None, 2816, False),
    "xl": Shape(32_128, 2048, 24, 32, 512, None, 5120, False),
    "xxl": Shape(32_128, 4096, 24, 64, 512, None, 10_240, False),
}
