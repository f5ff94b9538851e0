"""The operators that are proven and measured.

The legend of dimension letters, for every page: B batch, C channels (Co output channels), H W height
and width, T positions of a sequence, M heads, D width of a head, K kernel side, G groups, S window
side, E experts, L latent dimension, R reduction. N stands for H·W. Shapes read ``[B, C, H, W]``.
Papers use other letters; a page's docstring translates.
"""
