"""Tests of smelt.core."""
