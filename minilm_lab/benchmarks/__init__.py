"""How fast a distillation step is, against what other code does, in one run on the machine at hand."""
