"""A model's name -> the module and its inputs, or its trace: one file a kind of source."""
