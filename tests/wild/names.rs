//! Prefixes before all names, and convolutions with their axes in another order (W05, W06, W12).

use super::*;

#[test]
fn a_bare_model_without_its_prefix_loads() {
    assert_reference(&wild("names_without_model"), "names_without_model");
}

#[test]
fn the_prefix_of_a_wrapper_is_taken_off() {
    assert_reference(&wild("names_with_module"), "names_with_module");
}

#[test]
fn any_constant_prefix_before_all_names_is_taken_off() {
    for name in [
        "head_is_minus_embedding",
        "block_under_second_layer",
        "head_without_embedding",
    ] {
        for prefix in [
            "module.",
            "_orig_mod.",
            "base_model.model.",
            "model.",
            "a.b.c.",
        ] {
            let net = Net::wild(name).renamed(|name| format!("{prefix}{name}"));
            assert_reference(net.write().path(), name);
        }
        let body = |name: &str| name.strip_prefix("model.").unwrap_or(name).to_owned();
        let bare = Net::wild(name).renamed(body);
        assert_reference(bare.write().path(), name);
        let bare = Net::wild(name).renamed(|name| format!("module.{}", body(name)));
        assert_reference(bare.write().path(), name);
        let other = Net::wild(name).renamed(|name| match name.strip_prefix("model.") {
            Some(inside) => format!("backbone.{inside}"),
            None => name.into(),
        });
        assert_reference(other.write().path(), name);
    }
}

#[test]
fn errors_name_tensors_as_the_file_does() {
    let mut net = Net::wild("names_with_module");
    let name = "module.model.layers.1.mamba.in_proj.weight";
    net.tensors.get_mut(name).unwrap().shape.reverse();
    match refusal(net.write().path()) {
        Error::Shape { tensor, .. } => assert_eq!(tensor, name),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_second_model_under_its_own_prefix_is_not_mixed_in() {
    let net = Net::wild("block_under_second_layer");
    let mut both = net.clone();
    for (name, stored) in &net.tensors {
        let mut other = stored.clone();
        other.bytes.iter_mut().for_each(|byte| *byte = 0);
        both.tensors.insert(format!("ema.{name}"), other);
    }
    assert_reference(both.write().path(), "block_under_second_layer");
    let two = both.renamed(|name| match name.strip_prefix("ema.") {
        Some(_) => name.into(),
        None => format!("student.{name}"),
    });
    assert_eq!(refused(two.write().path()).0, "foreign_layout");
}

#[test]
fn convolutions_with_their_axes_in_another_order_are_read_in_theirs() {
    assert_reference(&wild("convolutions_transposed"), "convolutions_transposed");
    let is_conv = |name: &str| name.ends_with("conv1d.weight");
    let net = Net::wild("convolutions_transposed");
    // [conv_dim, d_conv, 1] of the fixture, in other forms.
    type Form = fn(&[usize]) -> Vec<usize>;
    let forms: [(bool, Form); 5] = [
        (false, |s| vec![s[0], s[1]]),
        (false, |s| vec![1, s[0], s[1]]),
        (true, |s| vec![s[1], 1, s[0]]),
        (true, |s| vec![s[1], s[0]]),
        (true, |s| vec![s[1], s[0], 1]),
    ];
    for (is_by_tap, form) in forms {
        let mut other = net.clone();
        for (_, stored) in other.tensors.iter_mut().filter(|(name, _)| is_conv(name)) {
            if is_by_tap {
                let (channels, taps) = (stored.shape[0], stored.shape[1]);
                let numbers: Vec<&[u8]> = stored.bytes.chunks(2).collect();
                let moved =
                    (0..channels * taps).map(|i| numbers[i % channels * taps + i / channels]);
                stored.bytes = moved.collect::<Vec<_>>().concat();
            }
            stored.shape = form(&stored.shape);
        }
        let dir = other.write();
        assert_reference(dir.path(), "convolutions_transposed");
        let out = TempDir::new().unwrap();
        let format = WeightFormat::Q8;
        folder::pack(
            Cpu::new(1),
            dir.path(),
            out.path(),
            settings(format),
            |_, _| {},
        )
        .unwrap();
        assert_eq!(logits(out.path(), format), logits(dir.path(), format));
    }
}

#[test]
fn a_convolution_of_another_size_is_refused() {
    let mut net = Net::wild("convolutions_transposed");
    let name = "model.layers.0.mamba.conv1d.weight";
    net.tensors.get_mut(name).unwrap().shape = vec![20, 8, 1];
    assert_eq!(refused(net.write().path()), ("bad_shape", WEIGHTS.into()));
}
