"""Options of model and step in the loop: a run that goes on does as one that never stopped, whatever they are."""

from __future__ import annotations

from dataclasses import replace

from millrace.config.network import CnnConfig
from millrace.training.loop import train
from millrace.training.ranks import Ranks
from millrace.training.request import TrainRequest

MODEL = CnnConfig(filters=(4,), hidden=(16,), batch_norm=True, dropout=0.3, l2=1e-3)
SETTINGS = {
    "batch_size": 96,
    "precision": "mixed_float16",
    "micro_batches": 2,
    "optimizer": {
        "learning_rate": 0.004,
        "schedule": {"scaling": "sqrt", "reference_batch": 24, "warmup_steps": 5, "decay": {"kind": "cosine", "steps": 30}},
        "clip": {"by": "global_norm", "limit": 1.0},
    },
}


def run(request: TrainRequest):
    rates = []

    def tell(kind: str, **fields: object) -> None:
        if kind == "step":
            rates.append(fields["learning_rate"])

    class_weights = tuple(1.0 + digit for digit in range(10))
    request = replace(request, model=MODEL, class_weights=class_weights)
    return train(request, Ranks(rank=0, world_size=1), tell=tell), rates


def test_goes_on_bit_for_bit_with_every_option(make_request):
    whole, all_rates = run(make_request(directory="whole", epochs=3, **SETTINGS))
    _, first_rates = run(make_request(directory="parts", epochs=1, **SETTINGS))
    rest, last_rates = run(make_request(directory="parts", epochs=3, **SETTINGS))
    assert rest.first_epoch == 2
    assert rest.weight_hash == whole.weight_hash
    assert first_rates + last_rates == all_rates
    assert max(all_rates) == all_rates[4] == all_rates[5] == 0.008
    timeless = [[{**row, "rows_per_second": 0} for row in result.rows] for result in (whole, rest)]
    assert timeless[0] == timeless[1]
    losses = {row["epoch"]: row for row in whole.rows if (row["split"], row["metric"]) == ("train", "loss")}
    assert losses[3]["value"] < losses[1]["value"]
    assert losses[3]["learning_rate"] == all_rates[-1]
