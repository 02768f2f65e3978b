"""Names for the shapes that the signatures of this package speak of.

The letters are shared by all files: ``n`` examples in a batch, ``*event`` the shape of one
example (``c h w`` for images), ``z`` the size of a code. Under pytest every call is checked
against them; at other times they cost nothing.
"""

from jaxtyping import Float, Int, Num
from torch import Tensor

Scalar = Float[Tensor, ""]  # one number, such as a loss
PerExample = Float[Tensor, "n"]  # one number an example, such as log p(x) in nats
Batch = Num[Tensor, "n *event"]  # examples as they come from the data
Flat = Float[Tensor, "n d"]  # real-valued vectors
Codes = Float[Tensor, "n z"]  # latent codes
Context = Float[Tensor, "n context"]  # what a conditional density is given
Labels = Int[Tensor, "n"]  # class indices
Tokens = Int[Tensor, "n t"]  # rows of token numbers
Logits = Float[Tensor, "n t v"]  # a number for each token of the vocabulary, at each place
