"""Watch the intrinsic dimension of every layer's representation while a network trains."""
