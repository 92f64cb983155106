"""A table: predict from numbers and categories which customers will leave; save the model, and use it on new rows.

The customers are made up here; `data.table` also takes a data frame, an Arrow table or the path of a CSV file.

python examples/customers.py            # a second or two
"""

import tempfile
from pathlib import Path

import numpy as np

import xpnet
from xpnet import data, losses, nn, optim, train

rng, n = np.random.default_rng(0), 2000
customers = {
    "age": rng.integers(18, 80, n),
    "city": rng.choice(["Rome", "Oslo", "Lima"], n),
    "shop": rng.choice([f"shop {i}" for i in range(40)], n),  # so many are embedded instead of one-hot
    "member": rng.random(n) < 0.5,
}
customers["churn"] = np.where((customers["age"] > 45) ^ (customers["city"] == "Rome"), "yes", "no")

# With unseen="zeros", a city that was not in the training data is encoded as zeros; without it, it is an error.
table = data.table(customers, target="churn", unseen="zeros")
training, test = data.split(table, 0.2, seed=0)

network = nn.Sequential(nn.Columns(**training.columns), nn.Linear(64), nn.ReLU(), nn.Linear(len(table.classes)))
model = nn.Model(network, table.input_shape, xpnet.select("auto", seed=0), table.classes)
loss, optimizer = losses.SoftmaxCrossEntropy(), optim.AdamW(model, 0.01)
train.fit(model, loss, optimizer, training, epochs=20, quiet=True)
print(f"{table!r}")
print(f"right for {train.evaluate(model, loss, test).accuracy:.1%} of {len(test)} customers that it has never seen")

new = {"member": [True, False], "city": ["Rome", "Paris"], "age": [30, 70], "shop": ["shop 3", "shop 9"]}
with tempfile.TemporaryDirectory() as folder:
    model.save(Path(folder) / "customers.safetensors")
    model = xpnet.load(Path(folder) / "customers.safetensors", device="cpu")  # the file has the columns, too
for age, city, p in zip(new["age"], new["city"], model.probabilities(new), strict=True):
    print(f"aged {age}, of {city}: churn {model.classes[p.argmax()]}, at {p.max():.1%}")
