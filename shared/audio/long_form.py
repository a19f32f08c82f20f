"""Log-mel features of a recording of any length: computed block by block, floored by the whole file's maximum.

The reference computes the features of the whole file at once and floors them by their maximum, which only the end
of the file decides. So what is kept is what the features are before the floor, in a temporary file once it has
outgrown its share of memory, and a window is floored when it is read: 10 h of 80 bins are 1.15 GB on disk.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable
from types import TracebackType

import torch
from torch import Tensor

from zoo.shared.audio.log_mel import CHUNK_SAMPLES, HOP, LEAST, WINDOW, LogMel, scale
from zoo.shared.errors import UserError

_IN_MEMORY = 1 << 25  # bytes: 17 minutes of 80 bins


class LongLogMel:
    """Features of one recording, equal to ``LogMel()(audio, maximum="tensor", padding=CHUNK_SAMPLES)``.

    Args:
        blocks: The recording at 16 kHz as consecutive pieces ``(S,)`` of any sizes, such as
            :func:`zoo.shared.audio.files.stream_audio` gives. Used up here, once.
        log_mel: Computes features.
        device: Where to compute; blocks are moved there, what is kept lies in host memory or on disk.

    Attributes:
        frames: Frames of the recording itself, 100 a second. As in the reference, features go on for 3,000 more, of
            the 30 s of silence that follow.
        samples: Samples of the recording.
        maximum: Greatest value before scaling, in decades.

    Raises:
        UserError: No samples at all, or no room for the temporary file.
    """

    def __init__(self, blocks: Iterable[Tensor], *, log_mel: LogMel, device: torch.device | str = "cpu") -> None:
        self.bins = log_mel.bins
        self.samples = 0
        self._stored = 0  # frames
        self._log_mel = log_mel
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, prefix="zoo-log-mel-")  # noqa: SIM115 - by close()
        self._greatest = torch.tensor(-math.inf, device=device)
        rest = torch.empty(0)
        try:
            for block in blocks:
                rest = torch.cat([rest.to(block.device), block])
                if not self.samples and len(rest) <= WINDOW // 2:
                    continue  # too little to be reflected at the start
                if not self.samples:
                    rest = torch.cat([rest[1 : WINDOW // 2 + 1].flip(0), rest])
                    self.samples = -WINDOW // 2
                rest = self._store(rest, device)
            if not self.samples:  # all of it fits into half a window
                self.samples = len(rest)
                rest = torch.nn.functional.pad(rest, (0, WINDOW))
                rest = torch.cat([rest[1 : WINDOW // 2 + 1].flip(0), rest])
            else:
                self.samples += self._stored * HOP + len(rest)
            if not self.samples:
                raise UserError("the recording holds no samples")
            self.frames = self.samples // HOP
            # The frames that still touch the recording; those of silence alone are at the least value everywhere.
            self._store(torch.nn.functional.pad(rest, (0, 2 * WINDOW)), device)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                where = tempfile.gettempdir()
                raise UserError(f"no room for features in {where}: {error.strerror}; set TMPDIR elsewhere") from error
            raise
        self.maximum = float(self._greatest)

    def _store(self, padded: Tensor, device: torch.device | str) -> Tensor:
        """Keep the features of all frames that are complete, and return the samples that later ones need."""
        count = max(0, (len(padded) - WINDOW) // HOP + 1)
        if count:
            decades = self._log_mel.decades(padded.to(device)[None].float())[0]
            self._greatest = torch.maximum(self._greatest, decades.max())
            self._file.write(decades.T.contiguous().cpu().numpy().data)
            self._stored += count
        return padded[count * HOP :]

    def window(self, start: int, stop: int) -> Tensor:
        """Features of some frames.

        Args:
            start: First frame.
            stop: Frame to end before; at most 3,000 after the recording.

        Returns:
            ``(M, stop - start)`` float32 on the CPU.
        """
        end = self.frames + CHUNK_SAMPLES // HOP
        if not 0 <= start <= stop <= end:
            raise ValueError(f"frames {start} to {stop} are not all within the {end} that there are")
        result = torch.full((stop - start, self.bins), LEAST).log10_()
        known = min(stop, self._stored) - start
        if known > 0:
            self._file.seek(start * self.bins * 4)
            stored = bytearray(self._file.read(known * self.bins * 4))
            result[:known] = torch.frombuffer(stored, dtype=torch.float32).view(known, self.bins)
        return scale(result, torch.tensor(self.maximum)).T.contiguous()

    def close(self) -> None:
        """Forget the features."""
        self._file.close()

    def __enter__(self) -> LongLogMel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
