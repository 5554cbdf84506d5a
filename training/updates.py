"""One update of a phase, and the next: what takes the time of a run."""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from training.base_model import BaseModel
from training.batches import TrainingPictures, draw_batch, picture_order
from training.cuda_graph import CaptureError, capture, side_stream
from training.loss import denoising_loss
from training.phase import Phase
from training.recording import record
from training.schedule import learning_rates

logger = logging.getLogger(__name__)

# Libraries choose and set up what they use in the first updates; only then can a graph be captured.
# The number is that of PyTorch's own examples.
NUM_BEFORE_CAPTURE = 3


class Updates:
    """The updates of one phase, taken one after the other.

    All that an update needs or changes lies in tensors on the device: which pictures, the learning
    rates, the count itself. None asks the device for a number, so the host can run far ahead of it,
    and a whole update, from the draw to the pull of the norms, fits into a CUDA graph.

    Attributes:
        losses: (updates,) on the device; 0 where not yet taken.
        rates: (updates, parameter groups) learning rates.
        capture_error: why there is no CUDA graph, though there should be one.
    """

    def __init__(
        self,
        phase: Phase,
        base: BaseModel,
        pictures: TrainingPictures,
        generator: torch.Generator,
    ) -> None:
        device = base.compute.device
        self.phase, self.base, self.pictures, self.generator = phase, base, pictures, generator
        order = picture_order(len(pictures), phase.num_updates * phase.batch_size, generator)
        self._order = order.view(phase.num_updates, phase.batch_size)
        self.rates = learning_rates(phase).to(device, torch.float32)
        self.losses = torch.zeros(phase.num_updates, device=device)
        self._number = torch.zeros(1, dtype=torch.long, device=device)
        self._num_taken = 0
        groups = [
            {**group, "lr": torch.zeros((), device=device)} for group in phase.parameter_groups
        ]
        is_capturable = base.compute.uses_graphs
        self._optimizer = torch.optim.AdamW(groups, fused=True, capturable=is_capturable)
        self._scaler = base.compute.grad_scaler()
        self._num_skipped = torch.zeros((), dtype=torch.long, device=device)
        base.compute.processes.copy_first(phase.parameters())
        self._loss: Callable[..., Tensor] = partial(denoising_loss, base)
        if phase.is_recorded and base.compute.uses_recordings:
            example = self._draw(self._order[0], base.compute.generator(0))
            self._loss = record(self._loss, phase.parameters(), example)
        self._graph: torch.cuda.CUDAGraph | None = None
        self.capture_error: CaptureError | None = None

    def take(self) -> None:
        """One more; returns when the device has been told, not when it has done it."""
        if self._num_taken == NUM_BEFORE_CAPTURE and self.base.compute.uses_graphs:
            self._capture()
        if self._graph is None:
            self._launch()
        else:
            self._graph.replay()
        self._num_taken += 1

    def _capture(self) -> None:
        before = self.generator.get_state()
        try:
            self._graph = capture(self._launch, self.generator)
        except CaptureError as error:
            self.capture_error = error
            logger.warning(
                "%s: no CUDA graph, each operation is launched on its own: %s",
                self.phase.name,
                error,
            )
            self.generator = _generator_at(before, self.base)
            self._optimizer.zero_grad(set_to_none=True)  # what the attempt left there

    def _launch(self) -> None:
        """One update, operation by operation."""
        phase, processes = self.phase, self.base.compute.processes
        rates = self.rates.index_select(0, self._number)[0].unbind()
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group["lr"].copy_(rate)
        chosen = self._order.index_select(0, self._number)[0]
        loss = self._loss(*self._draw(chosen, self.generator))
        self._scaler.scale(loss).backward()
        processes.average_gradients(phase.parameters())
        phase.project(self._step(rates[0]))
        loss = processes.average(loss.detach())
        self.losses.index_copy_(0, self._number, loss.view(1))
        self._number += 1

    def _draw(self, chosen: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Each of several processes draws for all of them, and keeps its part."""
        drawn = draw(self.phase, self.pictures, chosen, generator)
        return self.base.compute.processes.own_rows(drawn)

    def _step(self, rate: Tensor) -> Tensor:
        """Follow the gradients. If one overflowed, which float16 does, leave all as it was.

        Returns: the `rate` that this was done at: 0 if it was not.
        """
        phase, optimizer, scaler = self.phase, self._optimizer, self._scaler
        if scaler.is_enabled():
            gradients = [parameter.grad for parameter in phase.parameters()]
            is_finite = torch.stack([g.isfinite().all() for g in gradients if g is not None]).all()
            self._num_skipped += ~is_finite
            rate = rate * is_finite
        scaler.unscale_(optimizer)
        if phase.max_grad_norm < math.inf:
            nn.utils.clip_grad_norm_(phase.parameters(), phase.max_grad_norm)
        scaler.step(optimizer)  # does nothing where a gradient is not finite
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        return rate

    def close(self) -> None:
        """Give back the graph's memory, once the device has done with it."""
        if self._graph is not None:
            torch.cuda.current_stream().synchronize()
            self._graph.reset()
            self._graph = None

    def tell_skipped(self) -> None:
        """Waits for the device."""
        if num_skipped := int(self._num_skipped):
            logger.info(
                "%s: %d of %d updates changed nothing, as a gradient was too large for float16;"
                " the factor that keeps small ones was lowered each time",
                self.phase.name,
                num_skipped,
                self._num_taken,
            )
            if num_skipped == self._num_taken:
                logger.warning(
                    "%s learned nothing: take more steps, or set PRECISION=fp32", self.phase.name
                )


@contextmanager
def open_updates(
    phase: Phase, base: BaseModel, pictures: TrainingPictures, generator: torch.Generator
) -> Iterator[Updates]:
    """`generator` goes on afterwards where the updates ended.

    They draw from one of their own, which a graph may take hold of.
    """
    with side_stream(base.compute.device):
        own = _generator_at(generator.get_state(), base)
        updates = Updates(phase, base, pictures, own)
        try:
            yield updates
            generator.set_state(updates.generator.get_state())
        finally:
            updates.close()


def _generator_at(state: Tensor, base: BaseModel) -> torch.Generator:
    generator = base.compute.generator(0)
    generator.set_state(state)
    return generator


def draw(
    phase: Phase, pictures: TrainingPictures, chosen: Tensor, generator: torch.Generator
) -> tuple[Tensor, ...]:
    """What `denoising_loss` asks for: the chosen pictures, and as much noise as the phase asks."""
    batch = draw_batch(pictures, chosen, generator)
    noise = torch.randn(batch.latents.shape, generator=generator, device=batch.latents.device)
    timesteps = draw_timesteps(phase, len(chosen), generator)
    return batch.latents, noise, timesteps, batch.input_ids, batch.loss_weight


def draw_timesteps(phase: Phase, num: int, generator: torch.Generator) -> Tensor:
    """(num,) timesteps, each of the phase's range as likely as the others."""
    return torch.randint(
        phase.min_timestep,
        phase.max_timestep,
        (num,),
        generator=generator,
        device=generator.device,
    )
