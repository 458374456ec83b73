"""Cross-entropy over a large vocabulary without the whole tensor of logits.

At 50,257 tokens the logits of a batch are its largest tensor by far: 3.3 GB for 64 windows of 256
in float32. So they are made for some rows at a time, in one way on a CPU, in another on a GPU.
"""

from torch import Tensor

from dropgpt.model import loss_on_cpu, loss_on_gpu


def token_losses(features: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """Loss of each token in nats, (n,) float32: log sum exp(z) - z[target].

    features (n, n_embd), head (vocabulary, n_embd), targets (n,) int64. For measuring: computed
    in float32, without gradients.
    """
    on_cpu = head.device.type == "cpu"
    return (loss_on_cpu if on_cpu else loss_on_gpu).token_losses(features, head, targets)
