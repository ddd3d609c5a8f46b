"""Tests of smelt.cli."""
