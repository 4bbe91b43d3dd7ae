"""All checks in their order, from top to bottom: what each rank measures, and what rank 0 makes of it."""

from __future__ import annotations

import dataclasses
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signs_dist.config.settings import Config
from signs_dist.distributed.board import Board
from signs_dist.environment.addresses import GLOO_INTERFACES, find_loopback
from signs_dist.environment.context import Context
from signs_dist.environment.slurm_job import node_name, read_step
from signs_dist.errors import CommandError
from signs_dist.health import (
    arithmetic,
    clocks,
    collectives,
    compute,
    cores,
    data_speed,
    devices,
    limits,
    links,
    network,
    run_folder,
    slurm,
    versions,
)
from signs_dist.health.attempts import attempt, is_broken, split_broken
from signs_dist.health.finding import Finding, Place, leaders_of, listed, places_of
from signs_dist.health.stages import Stages

if TYPE_CHECKING:
    from signs_dist.distributed.rendezvous import Meeting

MEETING_SECONDS = 60.0
"""How long rank 0 waits for all ranks: Python takes its time to start on a busy machine."""
MOST_RANKS_IN_PAIRS = 8
"""Of more ranks, one of each machine is timed with the others."""
MOST_ROUNDS = 15
"""Of more machines, each is timed with so many others."""
Tell = Callable[[Sequence[Finding]], None]


@dataclasses.dataclass(frozen=True)
class Wish:
    """What is to be examined.

    Attributes:
        config: of the run.
        has_config: whether a person has named it: its data are measured only then.
        run_folder: where the run would write.
        is_run: whether a person has named the folder, whose last save is read then.
        signal_seconds: how long before its time limit a job is signalled.
        sends_signal: whether SLURM is asked to signal the ranks.
    """

    config: Config
    has_config: bool
    run_folder: Path
    is_run: bool = False
    signal_seconds: int = slurm.DEFAULT_SIGNAL_SECONDS
    sends_signal: bool = True


class Examination:
    """The checks of one rank. All ranks make one, and call `run`.

    Args:
        wish: what is to be examined.
        context: of this process.
        tell: gets the findings of each check on rank 0, as soon as they are there.
    """

    def __init__(self, wish: Wish, context: Context, tell: Tell) -> None:
        self._wish, self._context, self._tell = wish, context, tell
        self._rank = context.rank
        self._is_main = context.rank == 0
        self._meeting: Meeting | None = None
        self._stages: Stages
        self._places: dict[int, Place] = {}
        self._leaders: list[int] = []
        self._pids: dict[int, int] = {}
        self._token = b""
        self._told_lost: set[int] = set()
        self.findings: list[Finding] = []

    def run(self) -> list[Finding]:
        """Make all checks. On rank 0 returns all findings; on others none."""
        here = self._look_here()
        if not self._meet(here):
            return self.findings
        device = "cpu"
        if not is_broken(here["devices"]) and here["devices"].get("index") is not None:
            device = f"cuda:{here['devices']['index']}"
        try:
            self._check_here(here)
            self._check_compute(device)
            self._check_run_folder()
            rates, all_reached = self._check_network()
            self._check_all_reduce(device, rates, all_reached=all_reached)
            self._check_arithmetic(device)
            self._check_data(device)
            self._check_slurm()
            self._stages.run("end", lambda: None, 2.0)
        finally:
            self._stages.close()
        return self.findings

    def _say(self, findings: Sequence[Finding]) -> None:
        """Tell rank 0's findings, and which ranks were lost since the last ones."""
        if not self._is_main:
            return
        new = [rank for rank in self._stages.lost if rank not in self._told_lost] if self._places else []
        lost = [judge_lost(rank, *self._stages.lost[rank], self._places, self._pids) for rank in new]
        self._told_lost.update(new)
        self.findings += [*lost, *findings]
        self._tell([*lost, *findings])

    def _stage(
        self, name: str, measure: Callable[[], Any], seconds: float, ranks: Sequence[int] | None = None
    ) -> tuple[dict[int, Any], list[Finding]]:
        """The readings of those ranks that could take them, and findings about the others."""
        readings = self._stages.run(name, measure, seconds, ranks=ranks)
        if self._stages.lost.keys() - self._told_lost:
            self._say([])
        return split_broken(name, readings, self._places)

    def _look_here(self) -> dict[str, Any]:
        """What each rank can measure by itself."""
        return {
            "versions": attempt(versions.read_versions, 30.0),
            "devices": attempt(lambda: devices.read_devices(self._context), 30.0),
            "cores": attempt(lambda: cores.read_cores(self._context), 5.0),
            "limits": attempt(limits.read_amounts, 5.0),
        }

    def _meet(self, here: Mapping[str, Any]) -> bool:
        """Meet the other ranks; False on rank 0 if they do not come, with all that it knows told."""
        context = self._context
        if context.world_size > 1:
            from signs_dist.distributed.rendezvous import meet

            try:
                self._meeting = meet(context, MEETING_SECONDS)
            except CommandError as error:
                if not self._is_main:
                    raise
                self._stages = Stages(Board(0), 0, 1)
                self._places = places_of({0: self._own_node()})
                self._leaders = [0]
                self._say([judge_meeting(str(error))])
                self._judge_here({name: {0: reading} for name, reading in here.items()}, {})
                self._stages.close()
                return False
        board = Board(self._rank, None if self._meeting is None else self._meeting.store)
        self._stages = Stages(board, self._rank, context.world_size)
        token = secrets.token_hex(8)
        begun = self._stages.run("begin", lambda: [self._own_node(), os.getpid(), token], 5.0)
        self._places = places_of({rank: node for rank, (node, _, _) in begun.items()})
        self._pids = {rank: pid for rank, (_, pid, _) in begun.items()}
        self._leaders = leaders_of(self._places)
        self._token = begun[0][2].encode()
        return True

    def _own_node(self) -> str:
        return node_name(os.environ, self._context.host)

    def _check_here(self, here: Mapping[str, Any]) -> None:
        gathered = self._stages.run("here", lambda: dict(here), 5.0)
        busy, _ = self._stage("busy", cores.read_busy, 5.0, self._leaders)  # the other ranks sleep meanwhile
        if self._is_main:
            by_name = {name: {rank: readings[name] for rank, readings in gathered.items()} for name in here}
            self._judge_here(by_name, busy)

    def _judge_here(self, readings: Mapping[str, Mapping[int, Any]], busy: Mapping[int, Any]) -> None:
        whole, found = {}, []
        for name, of_ranks in readings.items():
            whole[name], broken = split_broken(name, of_ranks, self._places)
            found += broken
        places, leaders = self._places, [rank for rank in self._leaders if rank in whole["limits"]]
        driver = devices.find_driver(whole["devices"])
        if whole["versions"]:
            found += versions.judge(whole["versions"], places, driver)
        if whole["devices"]:
            known = [rank for rank in self._leaders if rank in whole["devices"]]
            found += devices.judge(whole["devices"], places, known)
        if whole["cores"]:
            found += cores.judge(whole["cores"], busy, places)
        if leaders:
            found += limits.judge(whole["limits"], places, leaders, self._need())
        self._say(found)

    def _need(self) -> limits.Need:
        from signs_dist.data.loader import choose_loader_settings

        context, config = self._context, self._wish.config
        settings = choose_loader_settings(
            config.data, usable_cores=context.cores_per_process, on_gpu=False, per_sample_work=True
        )
        own = -(-config.train.global_batch // context.world_size)
        return limits.Need(
            settings.num_workers,
            settings.prefetch,
            own * 3 * config.data.image_size**2,
            context.local_world_size,
            context.world_size,
        )

    def _check_compute(self, device: str) -> None:
        readings, found = self._stage(compute.CHECK, lambda: compute.measure(device), 20.0)
        if readings:
            found.append(compute.judge(readings, self._places))
        self._say(found)

    def _check_run_folder(self) -> None:
        folder = self._wish.run_folder
        readings, found = self._stage(run_folder.CHECK, lambda: run_folder.measure(folder), 30.0, self._leaders)
        found += run_folder.judge(readings, self._places) if readings else []
        others = [rank for rank in self._leaders if rank != 0]
        seen: dict[int, tuple[float | None, float | None]] = {}
        if others and not any(finding.status == "fail" for finding in found):
            view = run_folder.SharedView(folder, self._token.decode())
            texts = ("first", "second")
            times = []
            for text in texts:
                measure = (lambda: view.write(text)) if self._is_main else (lambda: view.look(text))  # noqa: B023
                late, broken = self._stage("same view", measure, 2 * run_folder.LOOK_SECONDS, self._leaders)
                found += broken
                times.append(late)
            if self._is_main:
                view.remove()
            seen = {rank: (times[0].get(rank), times[1].get(rank)) for rank in others if rank in self._stages.living}
        found += run_folder.judge_view(seen, self._places, str(run_folder.existing(folder)))
        self._say(found)

    def _check_network(self) -> tuple[float | None, bool]:
        """Names, ports, pairs and clocks; returns the slowest pair's bytes per second, and whether all reach all."""
        context, places = self._context, self._places
        nodes = {place.node for place in places.values()}
        loopback = find_loopback()
        listener = links.Listener(loopback if len(nodes) == 1 else "", self._token)
        try:
            ports, found = self._stage("listen", lambda: listener.port, 5.0)
            names = sorted(nodes - {places[self._rank].node} | ({context.host} if len(nodes) > 1 else set()))
            unknown, broken = self._stage("names", lambda: _without_address(names), 5.0 * len(names) + 5, self._leaders)
            found += [*broken, *network.judge_names(unknown, places)]

            def address_of(rank: int) -> str:
                return loopback if places[rank].node == places[self._rank].node else places[rank].node

            all_ranks = self._stages.living
            members = all_ranks if len(all_ranks) <= 2 * MOST_RANKS_IN_PAIRS else self._living_leaders()
            others = [rank for rank in members if rank != self._rank and rank in ports]

            def reach_all() -> list[tuple[int, str]]:
                with ThreadPoolExecutor(max(1, len(others))) as pool:
                    whys = pool.map(lambda rank: links.reach(address_of(rank), ports[rank], self._token), others)
                    return [(rank, why) for rank, why in zip(others, whys, strict=True) if why]

            refused, broken = self._stage("ports", reach_all, 20.0, members)
            unreached = {(rank, other): why for rank, pairs in refused.items() for other, why in pairs}
            tried = len(members) * (len(members) - 1)
            found += [*broken, *network.judge_ports(unreached, places, tried)]
            self._say(found)
            rate = self._time_pairs(ports, address_of, unreached)
            self._compare_clocks(ports, address_of)
        finally:
            listener.close()
        return rate, not unreached and not broken

    def _living_leaders(self) -> list[int]:
        return [rank for rank in self._leaders if rank in self._stages.living]

    def _time_pairs(
        self,
        ports: Mapping[int, int],
        address_of: Callable[[int], str],
        unreached: Mapping[tuple[int, int], str],
    ) -> float | None:
        living = self._stages.living
        members = living if len(living) <= MOST_RANKS_IN_PAIRS else self._living_leaders()
        timings: dict[tuple[int, int], links.PairTiming] = {}
        found: list[Finding] = []
        for pairs in links.rounds([rank for rank in members if rank in ports])[:MOST_ROUNDS]:
            partner = {one: other for one, other in pairs if (one, other) not in unreached}

            def measure(partner: Mapping[int, int] = partner) -> dict[str, Any]:
                other = partner[self._rank]
                return dataclasses.asdict(links.time_pair(address_of(other), ports[other], self._token))

            readings, broken = self._stage("pairs", measure, 20.0, list(partner))
            found += broken
            timings |= {(one, partner[one]): links.PairTiming(**reading) for one, reading in readings.items()}
        speed = (
            network.read_link_speed(os.environ.get(GLOO_INTERFACES, "").partition(",")[0]) if self._is_main else None
        )
        self._say([*found, *network.judge_pairs(timings, self._places, speed)])
        rates = [timing.bytes_per_second for timing in timings.values() if not timing.problem]
        return min(rates, default=None)

    def _compare_clocks(self, ports: Mapping[int, int], address_of: Callable[[int], str]) -> None:
        others = [rank for rank in self._leaders if rank != 0]
        if not others:
            self._say(clocks.judge({}, self._places))
            return
        offsets, found = self._stage(
            clocks.CHECK, lambda: links.clock_offset(address_of(0), ports[0], self._token), 15.0, others
        )
        found += (
            clocks.judge({rank: (one, two) for rank, (one, two) in offsets.items()}, self._places) if offsets else []
        )
        self._say(found)

    def _check_all_reduce(self, device: str, rate: float | None, *, all_reached: bool) -> None:
        if self._meeting is None:
            self._say([Finding(collectives.CHECK, "skip", "one rank, which sums with no other")])
            return
        if self._stages.lost or not all_reached:
            why = (
                f"{listed(self._places[rank] for rank in self._stages.lost)} does not answer"
                if self._stages.lost
                else "not all ranks reach each other"
            )
            self._say([Finding(collectives.CHECK, "skip", f"not measured: {why}, and it needs all ranks")])
            return
        meeting = self._meeting
        readings, found = self._stage(
            collectives.CHECK,
            lambda: collectives.measure(self._context, device, meeting),
            2 * collectives.TIMEOUT_SECONDS,
        )
        if readings and not found:
            found.append(collectives.judge(readings, self._places, rate if device == "cpu" else None))
        self._say(found)

    def _check_arithmetic(self, device: str) -> None:
        config, host = self._wish.config, self._context.host
        readings, found = self._stage(arithmetic.CHECK, lambda: arithmetic.measure(config, device, host), 60.0)
        if readings and self._is_main:
            found.append(arithmetic.judge(readings, self._places, is_exact=config.exact))
        self._say(found)

    def _check_data(self, device: str) -> None:
        if not self._wish.has_config:
            told = "not measured, since no config is given: type --config FILE data.root=PHOTOS"
            self._say([Finding(data_speed.CHECK, "skip", told)])
            return
        config, context = self._wish.config, self._context
        readings, found = self._stage(data_speed.CHECK, lambda: data_speed.measure(config, context, device), 90.0, [0])
        if 0 in readings:
            found = [data_speed.judge(data_speed.from_plain(readings[0]))]
        self._say(found)

    def _check_slurm(self) -> None:
        wish = self._wish
        folder = wish.run_folder if wish.is_run and wish.run_folder.is_dir() else None
        readings, found = self._stage(slurm.CHECK, lambda: slurm.read_slurm(folder), 100.0, [0])
        if 0 in readings:
            found += slurm.judge(readings[0], wish.signal_seconds)
        self._say(found)
        step = read_step(os.environ)
        if not self._context.is_by_slurm or not step or not wish.sends_signal:
            return
        watch = slurm.SignalWatch(step)
        try:
            self._stages.run("ready", lambda: None, 5.0)
            sent = self._stages.run("send", watch.send, slurm.ANSWER_SECONDS + 2, ranks=[0])
            problem = str(sent[0]) if sent.get(0) else ""
            seconds = 0.1 if problem else slurm.ARRIVAL_SECONDS
            arrived, broken = self._stage("signal", lambda: watch.wait(seconds), seconds + 5)
        finally:
            watch.close()
        self._say([*broken, slurm.judge_signal(arrived, problem, self._places)])


def _without_address(names: Sequence[str]) -> dict[str, str]:
    """Those names that have no address here, with the reason."""
    whys = {name: links.find_no_address(name) for name in names}
    return {name: why for name, why in whys.items() if why}


def judge_meeting(message: str) -> Finding:
    """That not all ranks have met, with the message that names those that did not come."""
    return Finding(
        "meeting",
        "fail",
        message,
        "all ranks, within a minute",
        "the logs of these ranks tell why; start all of them, and let the nodes reach rank 0's ports",
    )


def judge_lost(rank: int, stage: str, seconds: float, places: Mapping[int, Place], pids: Mapping[int, int]) -> Finding:
    """That a rank does not answer any more."""
    return Finding(
        "ranks",
        "fail",
        f"{places[rank]} did not answer in the check {stage!r} within {seconds:g} s",
        "an answer from every rank",
        f"on {places[rank].node}: ps -o pid,stat,wchan:20,cmd -p {pids.get(rank, 0)} shows what it does (T: stopped, "
        "D: waits for a disk or a network; gone: see its log)",
    )
