"""Against SAELens itself, which wants an older transformer-lens: an environment of its own."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
import torch
import sae_lens
from sae_lens import SAE, TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.config import LoggingConfig, SAETrainerConfig
from sae_lens.saes.sae import SAEMetadata
from sae_lens.training.sae_trainer import SAETrainer
from dtx.dictionary.sae_files import read, write
from tests.activations.toy import fresh, made, stage as storing
from tests.dt.test_model import build, contexts
from tests.dictionary.test_sae_files import HOOK, VARIANTS, dictionary

out, worst = Path(sys.argv[1]), 0.0
x = torch.randn(50, 16)
for i, (architecture, changes) in enumerate(VARIANTS):
    ours = dictionary(architecture, **changes)
    write(ours, out / str(i))
    theirs = SAE.load_from_disk(out / str(i))
    seen = x.unflatten(-1, (2, 8)) if "hook" in changes else x
    features, back = theirs.encode(seen), theirs(seen).reshape(50, 16)
    worst = max(worst, (features - ours.encode(x)).abs().max().item())
    worst = max(worst, (back - ours.reconstruct(x)).abs().max().item())
    theirs.save_model(out / f"{i}-theirs")
    again = read(out / f"{i}-theirs")
    assert again.hook_name == ours.hook_name and torch.equal(again.encode(x), ours.encode(x)), architecture

model = fresh()
stored = made(out / "store", storing(dt=model))
batches = lambda size, seed: (torch.from_numpy(x) for x, _ in stored.batches(HOOK, size, seed=seed))
stage, network = build()
context = contexts(stage, 60)
torch.manual_seed(0)
config = TopKTrainingSAEConfig(
    d_in=16, d_sae=32, k=4, normalize_activations="none", metadata=SAEMetadata(hook_name=HOOK)
)
sae = TopKTrainingSAE(config)
trainer = SAETrainer(
    cfg=SAETrainerConfig(
        total_training_samples=64 * 300, train_batch_size_samples=64, lr=3e-3, lr_end=3e-4,
        logger=LoggingConfig(log_to_wandb=False),
    ),
    sae=sae,
    data_provider=batches(64, 0),
)
sample = next(batches(200, 5))
unexplained = lambda: ((sae(sample) - sample).pow(2).sum() / (sample - sample.mean(0)).pow(2).sum()).item()
before = unexplained()
trainer.fit()
after = unexplained()
sae.save_inference_model(out / "trained")
ours = read(out / "trained")
with torch.no_grad():
    plain = network(context)
    with ours.spliced(network):
        spliced = network(context)
print("RESULT", __import__("json").dumps({
    "version": sae_lens.__version__, "worst": worst, "before": before, "after": after,
    "trained": (ours.reconstruct(sample) - sae(sample)).abs().max().item(),
    "spliced": (spliced - plain).abs().max().item(),
}))
"""


@pytest.mark.slow
def test_sae_lens_reads_ours_writes_what_we_read_and_trains_on_our_activations(tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    here = [p for p in sys.path if p.endswith("site-packages")]
    (site / "others.pth").write_text("\n".join([*here, str(ROOT)]))
    wanted = ["transformer-lens==3.9.0", "sae-lens==6.54.12"]
    subprocess.run([python, "-m", "pip", "install", "-q", *wanted], check=True, timeout=800)
    command = [python, "-c", PROGRAM, str(tmp_path / "files")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = (text for text in done.stdout.splitlines() if text.startswith("RESULT"))
    seen = json.loads(line.removeprefix("RESULT "))
    assert seen["version"] == "6.54.12"
    assert seen["worst"] < 1e-5 and seen["trained"] < 1e-5 and seen["spliced"] < 1e-5
    assert seen["after"] < 0.5 * seen["before"]
