"""Records what PyTorch computes, for the tests beside this file: python torch_steps.py > torch_steps.json"""

import json

import torch
import torch.nn.functional as F

torch.manual_seed(20)
SHAPES = {"a": (3, 4), "b": (5,)}
STEPS = 8
START = {name: torch.randn(shape) for name, shape in SHAPES.items()}
GRADIENTS = [{name: torch.randn(shape) for name, shape in SHAPES.items()} for _ in range(STEPS)]
RATES = [0.1 / (1 + step) for step in range(STEPS)]


def numbers(tensor):
    return [float(value) for value in tensor.flatten()]


def run(make):
    """The parameters after each step."""
    parameters = {name: torch.nn.Parameter(value.clone()) for name, value in START.items()}
    optimizer = make(list(parameters.values()))
    after = []
    for rate, gradients in zip(RATES, GRADIENTS):
        for group in optimizer.param_groups:
            group["lr"] = rate
        for name, parameter in parameters.items():
            parameter.grad = gradients[name].clone()
        optimizer.step()
        after.append({name: numbers(parameter.detach()) for name, parameter in parameters.items()})
    return after


optimizers = [
    {"options": {"kind": "sgd", "momentum": 0.0, "nesterov": False}, "weight_decay": 0.05,
     "after": run(lambda p: torch.optim.SGD(p, weight_decay=0.05))},
    {"options": {"kind": "sgd", "momentum": 0.9, "nesterov": False}, "weight_decay": 0.0,
     "after": run(lambda p: torch.optim.SGD(p, momentum=0.9))},
    {"options": {"kind": "sgd", "momentum": 0.9, "nesterov": True}, "weight_decay": 0.05,
     "after": run(lambda p: torch.optim.SGD(p, momentum=0.9, nesterov=True, weight_decay=0.05))},
    {"options": {"kind": "adamw", "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}, "weight_decay": 0.05,
     "after": run(lambda p: torch.optim.AdamW(p, weight_decay=0.05))},
    {"options": {"kind": "adamw", "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3}, "weight_decay": 0.0,
     "after": run(lambda p: torch.optim.AdamW(p, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.0))},
]


def clip(max_norm):
    parameters = [torch.nn.Parameter(value.clone()) for value in START.values()]
    for parameter, gradient in zip(parameters, GRADIENTS[0].values()):
        parameter.grad = gradient.clone()
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    return {"max_norm": max_norm, "norm": float(norm),
            "clipped": {name: numbers(p.grad) for name, p in zip(SHAPES, parameters)}}


def loss(of, **about):
    """A loss in f64 and its gradient."""
    logits = LOGITS.clone().requires_grad_()
    value = of(logits)
    value.backward()
    return {**about, "value": float(value.detach()), "gradient": numbers(logits.grad)}


LOGITS = (torch.randn(6, 7) * 3).double()
TEACHER = (torch.randn(6, 7) * 3).double()
LABELS = torch.tensor([0, 6, 3, 3, 1, 5])


def distilled(logits, temperature, weight, smoothing):
    divergence = F.kl_div(F.log_softmax(logits / temperature, 1), F.softmax(TEACHER / temperature, 1), reduction="batchmean")
    return (1 - weight) * F.cross_entropy(logits, LABELS, label_smoothing=smoothing) + weight * temperature**2 * divergence


losses = [loss(lambda x, e=e: F.cross_entropy(x, LABELS, label_smoothing=e), label_smoothing=e) for e in (0.0, 0.1)]
distillations = [
    loss(lambda x, t=t, w=w, e=e: distilled(x, t, w, e), temperature=t, weight=w, label_smoothing=e)
    for t, w, e in ((4.0, 0.5, 0.0), (2.0, 0.9, 0.1), (1.0, 1.0, 0.0))
]


def rates(make, total):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    scheduler = make(optimizer)
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


S = torch.optim.lr_scheduler
schedules = [
    {"schedule": "step", "rates": rates(lambda o: S.MultiStepLR(o, [10, 15], 0.1), 20)},
    {"schedule": "step:0.1,0.3,0.6*0.2", "rates": rates(lambda o: S.MultiStepLR(o, [2, 6, 12], 0.2), 20)},
    {"schedule": "cosine", "rates": rates(lambda o: S.CosineAnnealingLR(o, 20), 20)},
    {"schedule": "cosine:0.05", "rates": rates(lambda o: S.CosineAnnealingLR(o, 20, eta_min=0.02), 20)},
    {"schedule": "linear:0.25", "rates": rates(lambda o: S.LinearLR(o, 1.0, 0.25, 20), 20)},
    {"schedule": "constant", "rates": rates(lambda o: S.ConstantLR(o, 1.0, 1), 20)},
]

print(json.dumps({
    "torch": torch.__version__.split("+")[0],
    "shapes": SHAPES,
    "start": {name: numbers(value) for name, value in START.items()},
    "rates": RATES,
    "gradients": [{name: numbers(value) for name, value in step.items()} for step in GRADIENTS],
    "optimizers": optimizers,
    "clips": [clip(1.0), clip(100.0)],
    "logits": numbers(LOGITS), "teacher": numbers(TEACHER), "labels": LABELS.tolist(),
    "losses": losses, "distillations": distillations,
    "schedules": schedules,
}))
