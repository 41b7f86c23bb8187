"""A resumed run that draws the same random numbers as the run that was never stopped."""

import torch
from mmengine.dataset import worker_init_fn as mmengine_worker_init_fn
from mmengine.dist import broadcast, get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..data.sampler import DefaultSampler, InfiniteSampler
from ..data.seeded_items import SeededItems, seed_generators
from ..log import warn


class EpochSeedHook(Hook):
    """Seed python, numpy and torch from (seed, epoch, rank) before each training epoch.

    What is drawn in an epoch (order of the images, augmentation, dropout) is then a function of these three
    alone, and a checkpoint need not hold the generators' states. mmengine seeds only at the start of the
    process, and lets every worker start every epoch from one constant. Our data sets seed each image by
    itself (`SeededItems`), with the sampler's seed; the workers of others are seeded by torch as they start,
    and must not outlive an epoch (``persistent_workers=False``).
    """

    # The last hook before the epoch: no other hook's draws come between the seed and the data.
    priority = "LOWEST"

    def before_train(self, runner: Runner) -> None:
        """Agree on one seed for all ranks and hand it to the data loader."""
        seed = torch.tensor(runner.seed)
        broadcast(seed)
        self._seed = seed.item()

        loader = runner.train_dataloader
        # On resuming, mmengine reads the seed from the checkpoint after it has built the sampler.
        samplers = loader.sampler, getattr(loader.batch_sampler, "sampler", None)
        for sampler in samplers:
            if hasattr(sampler, "seed"):
                sampler.seed = self._seed
        if getattr(loader.worker_init_fn, "func", None) is mmengine_worker_init_fn:
            loader.worker_init_fn = None
        is_ours = any(isinstance(sampler, (DefaultSampler, InfiniteSampler)) for sampler in samplers)
        if loader.persistent_workers and not (is_ours and isinstance(loader.dataset, SeededItems)):
            warn(
                "train_dataloader.persistent_workers=True: a resumed run will draw other augmentations "
                "than a run that was never stopped; set it to False for the same ones"
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed the generators of this process and the one that its data workers' seeds come from."""
        seed_generators(self._seed, runner.epoch, get_rank())
        torch.manual_seed(torch.initial_seed())  # the GPUs too
        # Workers that outlive an epoch are seeded in the first alone, which must not shift torch's own.
        runner.train_dataloader.generator = torch.Generator().manual_seed(torch.initial_seed())
