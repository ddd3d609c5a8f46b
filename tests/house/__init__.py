"""House rules: checkers that are functions over a project's root, and the tests that apply them to this one."""
