"""Tests of smelt.optim."""
