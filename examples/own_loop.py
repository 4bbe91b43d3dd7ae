"""A training loop of your own. It gives the same weights on any number of processes, killed and resumed or not.

python examples/own_loop.py FOLDER
torchrun --standalone --nproc-per-node=3 examples/own_loop.py FOLDER       repeat it to resume from FOLDER
"""

import sys

import torch
from torch import nn

import signs_dist as sd


class Points(torch.utils.data.Dataset):
    """192 random points and whether their sum is positive. Each visit adds noise from torch's generator."""

    points = torch.randn(192, 8, generator=torch.Generator().manual_seed(1))

    def __len__(self):
        return len(self.points)

    def __getitem__(self, index):
        point = self.points[index]
        return {"point": point + 0.1 * torch.randn(8), "label": (point.sum() > 0).float()}


def main(folder: str) -> None:
    stop = sd.StopRequest()
    with sd.connect(exact=True) as processes, stop.handling():
        torch.manual_seed(0)  # the same initial weights on all processes
        net = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 1))
        net.to(processes.device)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        plan = sd.EpochPlan(len(Points()), global_batch=32, micro_batch=8, seed=0)
        step = sd.ExactStep(net, plan, processes, stop=stop)
        store = sd.CheckpointStore(folder)
        if saved := store.load():
            net.load_state_dict(saved["net"])
            optimizer.load_state_dict(saved["optimizer"])
            step.steps_done = saved["steps_done"]
        for epoch in range(step.steps_done // plan.num_steps, 6):
            for batch in sd.plan_loader(Points(), plan, processes, epoch, step.steps_done % plan.num_steps):
                for part in step.parts(batch):
                    point, label = (part.data[name].to(processes.device) for name in ("point", "label"))
                    part.backward(nn.functional.binary_cross_entropy_with_logits(net(point)[:, 0], label))
                step.finish()
                optimizer.step()
                if processes.is_main and (step.stop_agreed or step.steps_done % 5 == 0):
                    state = {"net": net.state_dict(), "optimizer": optimizer.state_dict()}
                    store.save(state | {"steps_done": step.steps_done}, step=step.steps_done)
                if step.stop_agreed:
                    return
        if processes.is_main:
            print(f"{step.steps_done} steps, weights {sd.weights_sha256(net)}")


if __name__ == "__main__":
    main(sys.argv[1])
