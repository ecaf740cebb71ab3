"""Records what small encoder-decoders of transformers compute in f64: `torch_translation.json`, read by `translations.rs`.

    python tests/models/torch_translation.py

Weights are those of `torch_text.py`. Needs torch and transformers (recorded with 2.15 and 5.24).
"""

import json
from pathlib import Path

import numpy as np
import torch
import transformers as t
from torch_text import weights

SMALL = dict(vocab_size=50, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=2)
SMALL |= dict(d_model=16, encoder_ffn_dim=24, decoder_ffn_dim=20, max_position_embeddings=32)
SMALL |= dict(pad_token_id=49, eos_token_id=0, forced_eos_token_id=0, decoder_start_token_id=49)
NETWORKS = {
    "swish": t.MarianConfig(**SMALL, activation_function="swish", scale_embedding=True),
    "relu": t.MarianConfig(**SMALL, activation_function="relu"),
    "gelu, separate": t.MarianConfig(
        **SMALL | dict(decoder_vocab_size=41, pad_token_id=40, decoder_start_token_id=40),
        activation_function="gelu",
        share_encoder_decoder_embeddings=False,
        scale_embedding=True,
    ),
}
SOURCES = [[7, 3, 44, 12, 9, 30, 21, 0], [5, 48, 8, 0], [33, 0]]
TARGETS = [[4, 17, 2, 39, 6], [11, 28, 36, 1, 9, 5, 22, 3], [31]]
SEARCHED = [*SOURCES, [22, 18, 0], [14, 6, 38, 29, 0], [41, 2, 2, 13, 45, 0], [10, 35, 27, 0], [1, 16, 0]]
SEARCHES = [(1, 1.0, False), (4, 1.0, False), (4, 0.0, False), (3, 2.0, False), (2, 0.6, True)]
LONGEST = 12
END = 1.2  # added to what the formula gives for the end token, so that searches end before they are cut


def record(name: str) -> dict:
    """What the network named `name` has and computes."""
    config = NETWORKS[name]
    model = t.MarianMTModel._from_config(config, attn_implementation="eager").double().eval()
    found = {k: v for k, v in model.named_parameters() if "embed_positions" not in k}
    found["final_logits_bias"] = model.final_logits_bias
    tensors = sorted(found)
    with torch.no_grad():
        for index, tensor in enumerate(tensors):
            rounded = weights(index, tensor, tuple(found[tensor].shape)).astype(np.float32)
            found[tensor].copy_(torch.from_numpy(rounded.astype(np.float64)))
        model.final_logits_bias[0, config.eos_token_id] += END
        logits, encoded = [], []
        for source, target in zip(SOURCES, TARGETS):
            inputs = torch.tensor([[config.decoder_start_token_id, *target]])
            out = model(input_ids=torch.tensor([source]), decoder_input_ids=inputs)
            logits.append(out.logits[0, :, ::5])  # every fifth of the vocabulary
            encoded.append(out.encoder_last_hidden_state[0])
        searches = []
        for beams, penalty, early in SEARCHES:
            translations, scores = [], []
            for source in SEARCHED:
                out = model.generate(
                    input_ids=torch.tensor([source]),
                    num_beams=beams,
                    length_penalty=penalty,
                    early_stopping=early,
                    max_length=LONGEST + 1,  # the start token is counted
                    bad_words_ids=[[config.pad_token_id]],
                    renormalize_logits=True,
                    return_dict_in_generate=True,
                    output_scores=True,
                )
                ids = out.sequences[0].tolist()[1:]
                translations.append(ids[: ids.index(config.eos_token_id)])
                scores.append(out.sequences_scores[0].item() if beams > 1 else None)
            searches.append(
                dict(beams=beams, length_penalty=penalty, early=early, translations=translations, scores=scores)
            )
    run = {"name": name, "config": config.to_dict()}
    run["tensors"] = [[tensor, list(found[tensor].shape)] for tensor in tensors]
    run["encoded"] = torch.cat(encoded).flatten().tolist()
    run["logits"] = torch.cat([row.flatten() for row in logits]).tolist()
    run["searches"] = searches
    return run


def main() -> None:
    target = Path(__file__).with_suffix(".json")
    lines = [json.dumps(record(name)) for name in NETWORKS]
    target.write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
