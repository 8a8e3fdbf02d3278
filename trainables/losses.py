"""Supervised contrastive loss (paper, Eq. 1), for one worker and for a data-parallel group."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trainables.distributed import SINGLE, WorkerGroup


class SupConLoss(NamedTuple):
    """This worker's part of the global batch's loss; parts add up over the workers.

    Attributes:
        loss: sum over the local anchors of Eq. 1, over the number of anchors in the global batch.
        no_positive_share: local anchors without a positive, over the global number of anchors.
    """

    loss: Float[Tensor, ""]
    no_positive_share: Float[Tensor, ""]


def supcon_loss(
    embeddings: Float[Tensor, "batch dim"],
    labels: Int[Tensor, " batch"],
    temperature: float,
    group: WorkerGroup = SINGLE,
    batch_size: int | None = None,
) -> SupConLoss:
    """Supervised contrastive loss, the mean over the anchors of the global batch.

    An anchor without a positive counts as 0 in the mean. Every worker's anchors are contrasted with
    the whole global batch, which is gathered with its gradient.

    Args:
        embeddings: this worker's share of the batch, of unit length.
        labels: their labels.
        temperature: tau of Eq. 1, > 0.
        group: the workers that share the batch, split as `WorkerGroup.share` does.
        batch_size: the size of the global batch; this worker's where left out.

    Source: paper, Eq. 1; Khosla et al. (2020), Eq. 2.
    """
    batch_size = len(labels) if batch_size is None else batch_size
    # Legend: A = this worker's anchors, B = the global batch, D = embedding dimensions.
    z_AD = embeddings.float() if embeddings.dtype in (torch.float16, torch.bfloat16) else embeddings
    z_BD = group.gather(z_AD, batch_size)
    labels_B = group.gather(labels, batch_size)
    own_A = group.share(torch.arange(batch_size, device=labels.device))

    is_self_AB = own_A[:, None] == torch.arange(batch_size, device=labels.device)[None, :]
    is_positive_AB = (labels[:, None] == labels_B[None, :]) & ~is_self_AB
    sim_AB = z_AD @ z_BD.T / temperature
    log_norm_A = sim_AB.masked_fill(is_self_AB, -torch.inf).logsumexp(dim=1)
    num_positives_A = is_positive_AB.sum(dim=1)
    positive_sim_A = (sim_AB * is_positive_AB).sum(dim=1)
    # With P positives, -1/P * sum over p of (sim_p - log_norm) = log_norm - mean of sim_p.
    loss_A = log_norm_A - positive_sim_A / num_positives_A.clamp(min=1)
    has_positive_A = num_positives_A > 0
    return SupConLoss(
        loss=torch.where(has_positive_A, loss_A, 0.0).sum() / batch_size,
        no_positive_share=(~has_positive_A).sum() / batch_size,
    )
