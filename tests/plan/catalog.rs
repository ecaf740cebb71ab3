//! What every tensor of the fixtures, and of a few files with traps in them, is taken for.

use crate::files::{Stored, fixture, folder};
use fnl::checkpoint::Checkpoint;
use fnl::plan::{Catalog, Exclusion, Kind};
use std::path::Path;

fn catalog(path: &Path) -> Catalog {
    Catalog::new(&Checkpoint::open_path(path).unwrap()).unwrap()
}

type Expected<'a> = (&'a str, Kind, Option<Exclusion>);

fn check(catalog: &Catalog, expected: &[Expected<'_>]) {
    for (name, kind, exclusion) in expected {
        let entry = catalog.get(name).unwrap_or_else(|| panic!("no `{name}`"));
        assert_eq!((entry.kind, &entry.exclusion), (*kind, exclusion), "{name}");
    }
}

/// The names of everything that is factored by default.
fn selected(catalog: &Catalog) -> Vec<&str> {
    catalog.entries().filter(|entry| entry.exclusion.is_none()).map(|entry| entry.layer.as_str()).collect()
}

#[test]
fn bert() {
    let catalog = catalog(&fixture("tiny-bert"));
    assert_eq!(catalog.model_type(), Some("bert"));
    let not = Some(Exclusion::NotAWeight);
    check(
        &catalog,
        &[
            ("bert.embeddings.position_ids", Kind::Buffer, not.clone()),
            ("bert.embeddings.LayerNorm.weight", Kind::Normalization, not.clone()),
            ("bert.embeddings.LayerNorm.bias", Kind::Bias, not.clone()),
            ("bert.embeddings.word_embeddings.weight", Kind::Embedding, Some(Exclusion::Tied)),
            ("bert.embeddings.position_embeddings.weight", Kind::Embedding, Some(Exclusion::Embedding)),
            ("bert.embeddings.token_type_embeddings.weight", Kind::Embedding, Some(Exclusion::Embedding)),
            ("bert.encoder.layer.0.attention.self.query.weight", Kind::Linear, None),
            ("bert.encoder.layer.1.output.dense.weight", Kind::Linear, None),
            ("cls.predictions.transform.dense.weight", Kind::Linear, None),
            ("cls.predictions.decoder.weight", Kind::Linear, Some(Exclusion::Tied)),
            ("cls.predictions.decoder.bias", Kind::Bias, not.clone()),
            ("cls.predictions.bias", Kind::Bias, not),
        ],
    );
    let tied = |name: &str| catalog.get(name).unwrap().tied_with.clone();
    assert_eq!(tied("bert.embeddings.word_embeddings.weight"), ["cls.predictions.decoder.weight"]);
    assert_eq!(tied("cls.predictions.decoder.weight"), ["bert.embeddings.word_embeddings.weight"]);
    // The two biases are equal as well, but no factors stand for a bias.
    assert!(tied("cls.predictions.bias").is_empty());
    // Six linear layers a block, and the head's transform.
    assert_eq!(selected(&catalog).len(), 13);
    let block = 4 * (32 * 32 + 32) + 2 * 64 * 32 + 64 + 32 + 4 * 32;
    let embeddings = (120 + 64 + 2) * 32 + 2 * 32;
    // The decoder is stored, and counted, a second time.
    let head = 32 * 32 + 32 + 2 * 32 + 2 * 120 + 120 * 32;
    assert_eq!(catalog.parameters(), 2 * block + embeddings + head);
}

#[test]
fn gpt2_with_and_without_its_config() {
    let file = fixture("tiny-gpt2").join("model.safetensors");
    for (path, told) in [(fixture("tiny-gpt2"), true), (file, false)] {
        let catalog = catalog(&path);
        assert_eq!(catalog.model_type(), told.then_some("gpt2"));
        for layer in 0..2 {
            for (name, shape) in [
                ("attn.c_attn", [48, 144]),
                // Square: nothing but its name, or its neighbours, tells.
                ("attn.c_proj", [48, 48]),
                ("mlp.c_fc", [48, 192]),
                ("mlp.c_proj", [192, 48]),
            ] {
                let entry = catalog.get(&format!("h.{layer}.{name}.weight")).unwrap();
                assert_eq!((entry.kind, &entry.exclusion), (Kind::TransposedLinear, &None), "{name}, {told}");
                assert_eq!((&entry.shape[..], entry.dtype), (&shape[..], "F16"));
            }
            let mask = catalog.get(&format!("h.{layer}.attn.bias")).unwrap();
            assert_eq!((mask.kind, mask.shape.as_slice()), (Kind::Buffer, &[1, 1, 64, 64][..]));
        }
        let wte = catalog.get("wte.weight").unwrap();
        // The config says that the head, which is not stored, is the same weight.
        let expected = if told { Exclusion::Tied } else { Exclusion::Embedding };
        assert_eq!((wte.kind, &wte.exclusion), (Kind::Embedding, &Some(expected)));
        check(&catalog, &[("wpe.weight", Kind::Embedding, Some(Exclusion::Embedding))]);
        assert_eq!(selected(&catalog).len(), 8);
        let blocks = 2 * (48 * 144 + 144 + 48 * 48 + 48 + 48 * 192 + 192 + 192 * 48 + 48 + 4 * 48);
        assert_eq!(catalog.parameters(), (blocks + 2 * 48 + 64 * 48 + 160 * 48) as u64);
    }
}

#[test]
fn llama() {
    let catalog = catalog(&fixture("tiny-llama"));
    check(
        &catalog,
        &[
            ("model.embed_tokens.weight", Kind::Embedding, Some(Exclusion::Embedding)),
            ("lm_head.weight", Kind::Linear, Some(Exclusion::OutputHead)),
            ("model.norm.weight", Kind::Normalization, Some(Exclusion::NotAWeight)),
            ("model.layers.0.input_layernorm.weight", Kind::Normalization, Some(Exclusion::NotAWeight)),
            ("model.layers.0.self_attn.k_proj.weight", Kind::Linear, None),
            ("model.layers.1.mlp.down_proj.weight", Kind::Linear, None),
        ],
    );
    assert_eq!(selected(&catalog).len(), 14);
    assert!(catalog.entries().all(|entry| entry.dtype == "BF16" && entry.tied_with.is_empty()));
}

#[test]
fn vit() {
    let catalog = catalog(&fixture("tiny-vit"));
    let not = Some(Exclusion::NotAWeight);
    check(
        &catalog,
        &[
            (
                "vit.embeddings.patch_embeddings.projection.weight",
                Kind::Conv2d,
                Some(Exclusion::FirstConvolution),
            ),
            ("vit.embeddings.position_embeddings", Kind::Parameter, not.clone()),
            ("vit.embeddings.cls_token", Kind::Parameter, not.clone()),
            ("vit.layernorm.weight", Kind::Normalization, not),
            ("vit.encoder.layer.1.attention.attention.value.weight", Kind::Linear, None),
            ("classifier.weight", Kind::Linear, Some(Exclusion::OutputHead)),
        ],
    );
    assert_eq!(selected(&catalog).len(), 12);
}

#[test]
fn resnet() {
    let catalog = catalog(&fixture("tiny-resnet.safetensors"));
    let not = Some(Exclusion::NotAWeight);
    check(
        &catalog,
        &[
            ("conv1.weight", Kind::Conv2d, Some(Exclusion::FirstConvolution)),
            ("bn1.weight", Kind::Normalization, not.clone()),
            ("bn1.running_mean", Kind::Buffer, not.clone()),
            ("layer3.0.bn2.running_var", Kind::Buffer, not.clone()),
            ("layer2.0.bn1.num_batches_tracked", Kind::Buffer, not),
            ("layer2.0.conv1.weight", Kind::Conv2d, None),
            ("linear.weight", Kind::Linear, Some(Exclusion::OutputHead)),
        ],
    );
    assert_eq!(
        selected(&catalog),
        [
            "layer1.0.conv1",
            "layer1.0.conv2",
            "layer2.0.conv1",
            "layer2.0.conv2",
            "layer3.0.conv1",
            "layer3.0.conv2"
        ]
    );
    // Kernels, scales and shifts, and the head; running statistics are not trained.
    let kernels = 9 * (8 * 3 + 2 * 8 * 8 + 16 * 8 + 16 * 16 + 32 * 16 + 32 * 32);
    let normalizations = 2 * (3 * 8 + 2 * 16 + 2 * 32);
    assert_eq!(catalog.parameters(), kernels + normalizations + 330);
}

#[test]
fn resnext_stores_kernels_whose_groups_nothing_says() {
    let catalog = catalog(&fixture("tiny-resnext.safetensors"));
    check(
        &catalog,
        &[
            ("conv1.weight", Kind::Conv2d, Some(Exclusion::FirstConvolution)),
            ("layer1.0.conv1.weight", Kind::Conv2d, None),
            (
                "layer1.0.conv2.weight",
                Kind::Conv2d,
                Some(Exclusion::UnknownGroups { channels: 4, expected: 16 }),
            ),
            (
                "layer2.0.conv2.weight",
                Kind::Conv2d,
                Some(Exclusion::UnknownGroups { channels: 8, expected: 32 }),
            ),
            ("layer2.0.conv3.weight", Kind::Conv2d, None),
            ("layer2.0.downsample.0.weight", Kind::Conv2d, None),
            ("fc.weight", Kind::Linear, Some(Exclusion::OutputHead)),
        ],
    );
    assert_eq!(selected(&catalog).len(), 6);
}

#[test]
fn silero() {
    let catalog = catalog(&fixture("silero_vad_16k.safetensors"));
    check(
        &catalog,
        &[
            // One input channel: the waveform.
            ("stft_conv.weight", Kind::Conv1d, Some(Exclusion::FirstConvolution)),
            ("conv1.weight", Kind::Conv1d, None),
            ("lstm_cell.weight_ih", Kind::Recurrent, Some(Exclusion::OnlyCollapsed)),
            ("lstm_cell.weight_hh", Kind::Recurrent, Some(Exclusion::OnlyCollapsed)),
            ("lstm_cell.bias_ih", Kind::Bias, Some(Exclusion::NotAWeight)),
            ("final_conv.weight", Kind::Conv1d, Some(Exclusion::OutputHead)),
        ],
    );
    assert_eq!(selected(&catalog), ["conv1", "conv2", "conv3", "conv4"]);
}

#[test]
fn types_that_are_not_computed_with_are_no_weights() {
    let folder = folder(
        &[
            Stored::new("a.weight", "I8", &[8, 8], vec![3; 64]),
            Stored::new("b.weight", "F8_E4M3", &[8, 8], vec![0x38; 64]),
            Stored::new("c.weight", "U8", &[8, 8], vec![7; 64]),
            Stored::new("mask", "BOOL", &[8], vec![1; 8]),
            Stored::new("temperature", "F32", &[], 0.5f32.to_le_bytes().to_vec()),
            Stored::new("empty.weight", "F32", &[0, 8], Vec::new()),
            Stored::random("d.weight", &[8, 8], 1),
            Stored::new("d.weight_scale", "F32", &[8], vec![0; 32]),
        ],
        None,
    );
    let catalog = catalog(folder.path());
    let not = Some(Exclusion::NotAWeight);
    check(
        &catalog,
        &[
            ("a.weight", Kind::Quantized, Some(Exclusion::Quantized)),
            ("b.weight", Kind::Quantized, Some(Exclusion::Quantized)),
            ("c.weight", Kind::Quantized, Some(Exclusion::Quantized)),
            ("mask", Kind::Buffer, not.clone()),
            ("temperature", Kind::Buffer, not.clone()),
            ("d.weight_scale", Kind::Quantized, not),
            ("empty.weight", Kind::Linear, Some(Exclusion::Empty)),
        ],
    );
    // A layer that holds a scale beside its weight is not an ordinary one.
    assert!(matches!(catalog.get("d.weight").unwrap().exclusion, Some(Exclusion::MoreParameters { .. })));
}

#[test]
fn equal_bytes_are_ties_and_equal_constants_are_not() {
    let one = Stored::random("one.weight", &[6, 5], 11);
    let named = |name: &str, of: &Stored| Stored { name: name.to_owned(), ..of.clone() };
    let constant = |name: &str| Stored::f32(name, &[6, 5], &[0.25; 30]);
    let mut nearly = named("nearly.weight", &one);
    nearly.bytes[119] ^= 1;
    let mut reshaped = named("reshaped.weight", &one);
    reshaped.shape = vec![5, 6];
    let tensors = [
        one.clone(),
        named("three.weight", &one),
        named("two.weight", &one),
        nearly,
        reshaped,
        constant("x.weight"),
        constant("y.weight"),
    ];
    let folder = folder(&tensors, None);
    let catalog = catalog(folder.path());
    let tied = |name: &str| catalog.get(name).unwrap().tied_with.clone();
    assert_eq!(tied("one.weight"), ["three.weight", "two.weight"]);
    assert_eq!(tied("two.weight"), ["one.weight", "three.weight"]);
    assert_eq!(catalog.get("two.weight").unwrap().exclusion, Some(Exclusion::Tied));
    for name in ["nearly.weight", "reshaped.weight", "x.weight", "y.weight"] {
        assert!(tied(name).is_empty(), "{name}");
        assert_eq!(catalog.get(name).unwrap().exclusion, None, "{name}");
    }
}

#[test]
fn ties_are_told_beyond_the_bytes_that_are_sampled() {
    // Equal in the first and the middle 4096 bytes, different in the last element.
    let one = Stored::random("one.weight", &[128, 64], 12);
    let mut two = Stored { name: "two.weight".to_owned(), ..one.clone() };
    *two.bytes.last_mut().unwrap() ^= 1;
    let folder = folder(&[one, two], None);
    assert!(catalog(folder.path()).entries().all(|entry| entry.tied_with.is_empty()));
}

#[test]
fn the_config_says_that_a_head_that_is_not_stored_is_tied() {
    let tensors = [Stored::random("model.embed_tokens.weight", &[40, 8], 13)];
    for (config, expected) in [
        (r#"{"vocab_size": 40, "tie_word_embeddings": true}"#, Exclusion::Tied),
        (
            r#"{"vocab_size": 40, "tie_word_embeddings": false, "architectures": ["XForCausalLM"]}"#,
            Exclusion::Embedding,
        ),
        // Models with a head tie it unless their config says otherwise.
        (r#"{"vocab_size": 40, "architectures": ["GPT2LMHeadModel"]}"#, Exclusion::Tied),
        (r#"{"vocab_size": 40, "architectures": ["BertModel"]}"#, Exclusion::Embedding),
        (r#"{"text_config": {"vocab_size": 40}, "tie_word_embeddings": true}"#, Exclusion::Tied),
        (r#"{"vocab_size": 41, "tie_word_embeddings": true}"#, Exclusion::Embedding),
    ] {
        let folder = folder(&tensors, Some(config));
        let entry = catalog(folder.path()).get("model.embed_tokens.weight").unwrap().clone();
        assert_eq!(entry.exclusion, Some(expected), "{config}");
    }
}

#[test]
fn convolutions_show_what_they_are_by_their_neighbours() {
    let folder = folder(
        &[
            Stored::random("stem.weight", &[16, 3, 3, 3], 1),
            Stored::random("block.conv1.weight", &[16, 16, 1, 1], 2),
            Stored::random("block.conv2.weight", &[16, 1, 3, 3], 3),
            Stored::random("up.deconv.weight", &[16, 8, 2, 2], 4),
            // As long as the second axis: the outputs come second.
            Stored::random("other.weight", &[16, 12, 2, 2], 5),
            Stored::random("other.bias", &[12], 6),
        ],
        None,
    );
    check(
        &catalog(folder.path()),
        &[
            ("stem.weight", Kind::Conv2d, Some(Exclusion::FirstConvolution)),
            ("block.conv1.weight", Kind::Conv2d, None),
            ("block.conv2.weight", Kind::Conv2d, Some(Exclusion::Depthwise)),
            ("up.deconv.weight", Kind::ConvTranspose, Some(Exclusion::TransposedConvolution)),
            ("other.weight", Kind::ConvTranspose, Some(Exclusion::TransposedConvolution)),
        ],
    );
}

/// A ResNeXt's block behind a stem of this name, with groups of four channels that its config tells.
fn grouped(stem: &str) -> Catalog {
    let tensors = [
        Stored::random(&format!("{stem}.weight"), &[16, 3, 7, 7], 1),
        Stored::random("layer1.0.conv1.weight", &[16, 16, 1, 1], 2),
        Stored::random("layer1.0.conv2.weight", &[16, 4, 3, 3], 3),
        Stored::random("layer1.0.conv3.weight", &[32, 16, 1, 1], 4),
    ];
    let folder = folder(&tensors, Some(r#"{"cardinality": 4}"#));
    catalog(folder.path())
}

fn check_grouped(catalog: &Catalog, stem: &str) {
    let entry = catalog.get("layer1.0.conv2.weight").unwrap();
    assert_eq!((entry.groups, &entry.exclusion), (4, &None));
    for name in ["layer1.0.conv1.weight", "layer1.0.conv3.weight"] {
        assert_eq!(catalog.get(name).unwrap().groups, 1);
    }
    assert_eq!(catalog.get(&format!("{stem}.weight")).unwrap().exclusion, Some(Exclusion::FirstConvolution));
}

#[test]
fn a_config_says_the_groups() {
    check_grouped(&grouped("conv1"), "conv1");
}

#[test]
fn the_first_convolution_is_told_wherever_its_name_stands() {
    check_grouped(&grouped("stem.conv1"), "stem.conv1");
}

#[test]
fn names_that_the_factors_would_get_may_be_taken() {
    let tensors = [
        Stored::random("head.weight", &[8, 8], 1),
        Stored::random("fc.weight", &[8, 8], 2),
        Stored::random("fc.0.weight", &[8, 8], 3),
        Stored::random("lora.weight", &[8, 8], 4),
        Stored::random("lora.lora_A", &[2, 8], 5),
    ];
    let folder = folder(&tensors, None);
    let catalog = catalog(folder.path());
    let of = |name: &str| catalog.get(name).unwrap().exclusion.clone();
    assert_eq!(of("fc.weight"), Some(Exclusion::NamesTaken { other: "fc.0.weight".to_owned() }));
    assert_eq!(of("lora.weight"), Some(Exclusion::MoreParameters { other: "lora.lora_A".to_owned() }));
    assert_eq!(of("head.weight"), Some(Exclusion::OutputHead));
}
