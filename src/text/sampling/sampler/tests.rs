use super::*;
use crate::base::error::Error;
use crate::text::sampling::*;

/// Every option off: the plain softmax.
fn plain() -> SamplingOptions {
    let mut options = SamplingOptions {
        seed: 7,
        ..SamplingOptions::default()
    };
    for NumberOption { name, off, .. } in NUMBER_OPTIONS {
        if let Some(off) = off {
            options.set(name, *off);
        }
    }
    options
}

fn sampler(options: SamplingOptions) -> Sampler {
    Sampler::new(options).unwrap()
}

/// Logits whose softmax is `probabilities`, up to f32 rounding.
fn logits_of(probabilities: &[f64]) -> Vec<f32> {
    probabilities.iter().map(|p| p.ln() as f32).collect()
}

/// Uneven logits with many exact ties, different for each `salt`.
fn mixed_logits(n: usize, salt: u64) -> Vec<f32> {
    let mut rng = Pcg64Mcg::seed_from_u64(salt);
    (0..n)
        .map(|_| (rng.next_u64() % 97) as f32 / 8.0 - 6.0)
        .collect()
}

/// The distribution of the type's numbered list, written step by step with fresh vectors and std's exp.
fn reference_distribution(
    options: &SamplingOptions,
    logits: &[f32],
    history: &[u32],
) -> Vec<(u32, f64)> {
    let mut logits: Vec<f32> = logits.to_vec();
    let distinct: std::collections::BTreeSet<u32> = history.iter().copied().collect();
    for token in distinct {
        let logit = &mut logits[token as usize];
        let penalty = options.repetition_penalty;
        *logit = if *logit > 0.0 {
            (f64::from(*logit) / penalty) as f32
        } else {
            (f64::from(*logit) * penalty) as f32
        };
    }
    let mut ranked: Vec<(u32, f64)> = logits
        .iter()
        .enumerate()
        .map(|(token, &logit)| (token as u32, f64::from(logit) / options.temperature))
        .collect();
    ranked.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
    if options.top_k > 0 {
        ranked.truncate(options.top_k);
    }
    let normalise = |ranked: &mut Vec<(u32, f64)>| {
        let sum: f64 = ranked.iter().map(|entry| entry.1).sum();
        ranked.iter_mut().for_each(|entry| entry.1 /= sum);
    };
    let largest = ranked[0].1;
    ranked
        .iter_mut()
        .for_each(|entry| entry.1 = (entry.1 - largest).exp());
    normalise(&mut ranked);
    if options.top_p < 1.0 {
        let mut kept = Vec::new();
        let mut reached = 0.0;
        for entry in ranked {
            if reached >= options.top_p {
                break;
            }
            reached += entry.1;
            kept.push(entry);
        }
        ranked = kept;
    }
    let line = options.min_p * ranked[0].1;
    ranked.retain(|entry| entry.1 >= line);
    normalise(&mut ranked);
    ranked
}

#[test]
fn every_sample_agrees_with_a_sampler_written_step_by_step() {
    for (case, (top_k, top_p, min_p, repetition_penalty, temperature)) in [
        (0, 1.0, 0.0, 1.0, 1.0),
        (40, 0.95, 0.0, 1.0, 0.7),
        (5, 0.5, 0.0, 1.3, 0.4),
        (0, 0.9, 0.05, 1.1, 1.5),
        (1000, 0.99, 0.2, 0.8, 2.0),
        (3, 1.0, 0.9, 4.0, 0.1),
    ]
    .into_iter()
    .enumerate()
    {
        let seeded = SamplingOptions {
            seed: 1000 + case as u64,
            ..plain()
        };
        let options = SamplingOptions {
            temperature,
            top_k,
            top_p,
            min_p,
            repetition_penalty,
            ..seeded
        };
        let mut sampler = sampler(options.clone());
        let mut rng = Pcg64Mcg::seed_from_u64(options.seed);
        let mut history = vec![3, 3, 0];
        for round in 0..200 {
            // 331 is prime: no width of lanes or blocks divides it.
            let logits = mixed_logits(331, round);
            let reference = reference_distribution(&options, &logits, &history);
            let uniform = (rng.next_u64() >> 11) as f64 / 2f64.powi(53);
            let mut below = 0.0;
            let expected = reference
                .iter()
                .find(|entry| {
                    below += entry.1;
                    below > uniform
                })
                .unwrap();
            let sampled = sampler.sample(&mut logits.clone(), &history).unwrap();
            assert_eq!(sampled.token, expected.0, "case {case}, round {round}");
            // Both are f64 sums of at most 331 terms; 1e-12 is far above their rounding and far below a weight.
            assert!((sampled.probability - expected.1).abs() < 1e-12);
            history.push(sampled.token);
        }
    }
}

/// The tokens below 331 for which `is_allowed`.
fn set_of(is_allowed: impl Fn(u32) -> bool) -> TokenSet {
    let mut words = vec![0; 11];
    for token in (0..331).filter(|token| is_allowed(*token)) {
        words[token as usize / 32] |= 1 << (token % 32);
    }
    TokenSet::from_words(words)
}

#[test]
fn among_allowed_tokens_it_samples_as_if_the_others_were_not_in_the_vocabulary() {
    for (temperature, top_k, top_p, min_p, penalty) in [
        (0.0, 0, 1.0, 0.0, 1.0),
        (0.0, 0, 1.0, 0.0, 1.7),
        (0.7, 40, 0.95, 0.0, 1.0),
        (1.5, 0, 1.0, 0.02, 0.6),
        (1.0, 200, 0.5, 0.0, 1.3),
    ] {
        let options = SamplingOptions {
            temperature,
            top_k,
            top_p,
            min_p,
            repetition_penalty: penalty,
            ..plain()
        };
        let (mut masked, mut alone) = (sampler(options.clone()), sampler(options));
        let allowed = set_of(|token| token % 10 == 7);
        let history = [7, 17, 8];
        for round in 0..100 {
            let mut logits = mixed_logits(331, round);
            let before = logits.clone();
            let sampled = masked.sample_among(&allowed, &mut logits, &history);
            assert_eq!(logits, before);
            // The same logits as a vocabulary of their own: token 10 i + 7 is token i there.
            let mut own: Vec<f32> = before.into_iter().skip(7).step_by(10).collect();
            let expected = alone.sample(&mut own, &[0, 1]).unwrap();
            let sampled = sampled.unwrap();
            assert_eq!(sampled.token, 10 * expected.token + 7);
            assert_eq!(sampled.probability, expected.probability);
        }
    }
}

#[test]
fn without_an_allowed_token_there_is_an_error_and_no_random_number_is_used() {
    let (mut tried, mut fresh) = (sampler(plain()), sampler(plain()));
    let mut logits = mixed_logits(331, 0);
    for none in [set_of(|_| false), TokenSet::from_words(Vec::new())] {
        let refused = tried.sample_among(&none, &mut logits, &[]).unwrap_err();
        assert_eq!(refused.code(), "bad_grammar");
    }
    let expected = fresh.sample(&mut logits, &[]);
    assert_eq!(tried.sample(&mut logits, &[]), expected);
}

#[test]
fn temperature_zero_takes_the_largest_logit_and_the_lowest_id_of_a_tie() {
    let options = SamplingOptions {
        temperature: 0.0,
        ..SamplingOptions::default()
    };
    let mut sampler = sampler(options);
    let mut logits = [1.0, 3.0, -2.0, 3.0, 3.0];
    assert_eq!(sampler.sample(&mut logits, &[]).unwrap().token, 1);
    assert_eq!(sampler.sample(&mut [-0.0, 0.0], &[]).unwrap().token, 0);
    assert_eq!(sampler.sample(&mut [0.0, -0.0], &[]).unwrap().token, 0);
    assert_eq!(sampler.sample(&mut [f32::MIN; 3], &[]).unwrap().token, 0);
}

#[test]
fn greedy_reports_the_plain_softmax_whatever_the_filters_say() {
    let options = SamplingOptions {
        temperature: 0.0,
        top_k: 1,
        top_p: 0.1,
        min_p: 1.0,
        ..plain()
    };
    let sampled = sampler(options)
        .sample(&mut logits_of(&[0.2, 0.5, 0.3]), &[])
        .unwrap();
    assert_eq!(sampled.token, 1);
    // The logits are rounded to f32, whose step near ln 0.5 is 6e-8.
    assert!((sampled.probability - 0.5).abs() < 1e-7);
}

#[test]
fn greedy_uses_no_random_number_and_every_other_setting_uses_one() {
    let start = Pcg64Mcg::seed_from_u64(7);
    let mut greedy = sampler(SamplingOptions {
        temperature: 0.0,
        ..plain()
    });
    greedy.sample(&mut mixed_logits(10, 1), &[]).unwrap();
    assert_eq!(greedy.rng, start);

    let mut after_one = start.clone();
    after_one.next_u64();
    for top_k in [0, 1] {
        let mut random = sampler(SamplingOptions { top_k, ..plain() });
        random.sample(&mut mixed_logits(10, 1), &[]).unwrap();
        assert_eq!(random.rng, after_one);
    }
}

#[test]
fn top_k_of_one_chooses_what_greedy_chooses() {
    let mut greedy = sampler(SamplingOptions {
        temperature: 0.0,
        ..plain()
    });
    let mut narrow = sampler(SamplingOptions {
        top_k: 1,
        ..plain()
    });
    for salt in 0..100 {
        let mut logits = mixed_logits(331, salt);
        let sampled = narrow.sample(&mut logits, &[]).unwrap();
        assert_eq!(
            sampled.token,
            greedy.sample(&mut logits, &[]).unwrap().token
        );
        assert_eq!(sampled.probability, 1.0);
    }
}

#[test]
fn frequencies_of_many_samples_follow_the_softmax() {
    let probabilities = [0.02, 0.4, 0.08, 0.3, 0.2];
    let logits = logits_of(&probabilities);
    let mut sampler = sampler(plain());
    let n_samples = 100_000;
    let mut counts = [0u32; 5];
    for _ in 0..n_samples {
        let sampled = sampler.sample(&mut logits.clone(), &[]).unwrap();
        counts[sampled.token as usize] += 1;
    }
    for (count, p) in counts.into_iter().zip(probabilities) {
        // Five standard deviations of a binomial share: a right sampler fails for one seed in a million, and
        // the seed is fixed.
        let bound = 5.0 * (p * (1.0 - p) / f64::from(n_samples)).sqrt();
        let share = f64::from(count) / f64::from(n_samples);
        assert!((share - p).abs() < bound, "{share} for {p}");
    }
}

/// The tokens that can be sampled at all, found by sampling many times.
fn support(options: SamplingOptions, logits: &[f32], history: &[u32]) -> Vec<u32> {
    let mut sampler = sampler(options);
    let sampled: std::collections::BTreeSet<u32> = (0..2000)
        .map(|_| sampler.sample(&mut logits.to_vec(), history).unwrap().token)
        .collect();
    sampled.into_iter().collect()
}

#[test]
fn top_k_keeps_the_largest_and_the_lower_ids_of_a_tie() {
    let logits = [0.0, 1.0, 0.0, 2.0, 0.0];
    let kept = |top_k| support(SamplingOptions { top_k, ..plain() }, &logits, &[]);
    assert_eq!(kept(2), [1, 3]);
    assert_eq!(kept(3), [0, 1, 3]);
    assert_eq!(kept(5), [0, 1, 2, 3, 4]);
    assert_eq!(kept(0), [0, 1, 2, 3, 4]);
    assert_eq!(kept(u32::MAX as usize), [0, 1, 2, 3, 4]);
}

#[test]
fn top_p_keeps_the_token_that_crosses_the_line_and_none_after_it() {
    let logits = logits_of(&[0.5, 0.3, 0.15, 0.05]);
    let kept = |top_p| support(SamplingOptions { top_p, ..plain() }, &logits, &[]);
    assert_eq!(kept(0.01), [0]);
    assert_eq!(kept(0.49), [0]);
    assert_eq!(kept(0.51), [0, 1]);
    assert_eq!(kept(0.79), [0, 1]);
    assert_eq!(kept(0.81), [0, 1, 2]);
    assert_eq!(kept(1.0), [0, 1, 2, 3]);
}

#[test]
fn min_p_is_relative_to_the_most_probable_token() {
    let logits = logits_of(&[0.5, 0.3, 0.15, 0.05]);
    let kept = |min_p| support(SamplingOptions { min_p, ..plain() }, &logits, &[]);
    assert_eq!(kept(0.0), [0, 1, 2, 3]);
    assert_eq!(kept(0.2), [0, 1, 2]);
    assert_eq!(kept(0.5), [0, 1]);
    assert_eq!(kept(0.7), [0]);
    assert_eq!(kept(1.0), [0]);
}

#[test]
fn the_penalty_changes_a_greedy_choice() {
    let mut sampler = sampler(SamplingOptions {
        temperature: 0.0,
        repetition_penalty: 1.5,
        ..plain()
    });
    assert_eq!(sampler.sample(&mut [3.0, 2.5], &[]).unwrap().token, 0);
    assert_eq!(sampler.sample(&mut [3.0, 2.5], &[0]).unwrap().token, 1);
}

#[test]
fn the_penalty_acts_before_top_k() {
    let options = SamplingOptions {
        top_k: 1,
        repetition_penalty: 2.0,
        ..plain()
    };
    assert_eq!(support(options, &[3.0, 2.0, 1.0], &[0]), [1]);
}

#[test]
fn the_temperature_acts_before_top_p() {
    // At temperature 1 the first token has 0.6 and reaches 0.7 only with the second; at 0.5 it has 0.36 of 0.46.
    let logits = logits_of(&[0.6, 0.3, 0.1]);
    let kept = |temperature| {
        let options = SamplingOptions {
            temperature,
            top_p: 0.7,
            ..plain()
        };
        support(options, &logits, &[])
    };
    assert_eq!(kept(1.0), [0, 1]);
    assert_eq!(kept(0.5), [0]);
}

#[test]
fn top_k_acts_before_top_p() {
    let logits = logits_of(&[0.4, 0.3, 0.2, 0.1]);
    let kept = |top_k, top_p| {
        let options = SamplingOptions {
            top_k,
            top_p,
            ..plain()
        };
        support(options, &logits, &[])
    };
    // 0.4 of 0.7 is 0.57 and reaches 0.55; without the renormalisation 0.4 would not.
    assert_eq!(kept(2, 0.55), [0]);
    assert_eq!(kept(0, 0.55), [0, 1]);
}

#[test]
fn the_probability_is_that_of_the_filtered_distribution() {
    let logits = logits_of(&[0.4, 0.4, 0.1, 0.1]);
    let mut sampler = sampler(SamplingOptions {
        top_k: 2,
        ..plain()
    });
    let sampled = sampler.sample(&mut logits.clone(), &[]).unwrap();
    assert_eq!(sampled.probability, 0.5);
}

fn tokens_of(seed: u64) -> Vec<u32> {
    let mut sampler = sampler(SamplingOptions { seed, ..plain() });
    (0..24)
        .map(|round| {
            sampler
                .sample(&mut mixed_logits(331, round), &[])
                .unwrap()
                .token
        })
        .collect()
}

#[test]
fn the_same_seed_gives_the_same_tokens_and_another_seed_gives_others() {
    assert_eq!(tokens_of(1), tokens_of(1));
    assert_ne!(tokens_of(1), tokens_of(2));
    assert_ne!(tokens_of(0), tokens_of((1 << 53) - 1));
}

#[test]
fn the_stream_of_a_seed_is_the_same_on_every_platform_and_in_every_release() {
    let mut sampler = sampler(SamplingOptions {
        seed: 42,
        ..SamplingOptions::default()
    });
    let sampled: Vec<(u32, u64)> = (0..4)
        .map(|round| sampler.sample(&mut mixed_logits(331, round), &[]).unwrap())
        .map(|sampled| (sampled.token, sampled.probability.to_bits()))
        .collect();
    // Recorded once, natively. They change only if the generator or the exponential does, and then every
    // user's saved text changes with them.
    assert_eq!(
        sampled,
        [
            (295, 4_584_331_460_133_169_088),
            (156, 4_589_017_827_565_177_221),
            (35, 4_585_746_009_551_650_106),
            (128, 4_587_356_869_244_946_166),
        ]
    );
}

#[test]
fn logits_that_are_not_finite_are_the_devices_fault() {
    for temperature in [0.0, 1.0] {
        let options = SamplingOptions {
            temperature,
            ..plain()
        };
        let mut sampler = sampler(options);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = sampler.sample(&mut [0.0, bad, 1.0], &[]).unwrap_err();
            let Error::NonFiniteLogits { token, .. } = error else {
                panic!("{error}");
            };
            assert_eq!(token, 1);
        }
        assert!(matches!(
            sampler.sample(&mut [], &[]),
            Err(Error::Device { .. })
        ));
    }
}

#[test]
fn the_most_extreme_finite_settings_still_choose() {
    for temperature in [f64::MIN_POSITIVE, 1e-300, 1.0, f64::MAX] {
        for repetition_penalty in [f64::MIN_POSITIVE, 1.0, f64::MAX] {
            let options = SamplingOptions {
                temperature,
                repetition_penalty,
                ..plain()
            };
            let mut logits = [f32::MAX, f32::MIN, 0.0, -1.0];
            let sampled = sampler(options).sample(&mut logits, &[0, 1, 2, 3]).unwrap();
            assert!(sampled.probability > 0.0 && sampled.probability <= 1.0);
        }
    }
}

#[test]
fn a_vocabulary_of_one_token_has_one_choice() {
    let sampled = sampler(SamplingOptions::default())
        .sample(&mut [-5.0], &[])
        .unwrap();
    assert_eq!(
        sampled,
        Sampled {
            token: 0,
            probability: 1.0
        }
    );
}

#[test]
fn only_the_first_token_allocates() {
    let mut sampler = sampler(SamplingOptions {
        repetition_penalty: 1.1,
        ..SamplingOptions::default()
    });
    let history: Vec<u32> = (0..331).collect();
    let mut logits = mixed_logits(331, 0);
    sampler.sample(&mut logits, &history).unwrap();
    let buffers = (
        sampler.candidates.0.as_ptr(),
        sampler.penalty.is_done.as_ptr(),
    );
    for _ in 0..50 {
        sampler.sample(&mut logits, &history).unwrap();
        assert_eq!(
            (
                sampler.candidates.0.as_ptr(),
                sampler.penalty.is_done.as_ptr()
            ),
            buffers
        );
    }
}

#[test]
fn a_sufficient_top_k_list_gives_what_all_logits_give() {
    for salt in 0..50 {
        for (temperature, top_k) in [(0.0, 0), (0.0, 5), (0.7, 1), (1.5, 5), (1.5, 64)] {
            let options = SamplingOptions {
                temperature,
                top_k,
                top_p: 0.9,
                seed: salt,
                ..plain()
            };
            let mut logits = mixed_logits(331, salt);
            let top = TopK::of(&logits, options.sufficient_top_k().unwrap());
            let from_list = sampler(options.clone()).sample_top(&top).unwrap();
            let from_all = sampler(options).sample(&mut logits, &[]).unwrap();
            assert_eq!(from_list, from_all);
        }
    }
}

#[test]
fn a_logit_that_is_not_finite_is_the_same_error_from_a_list() {
    for fault in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut logits = [1.0, 2.0, fault, fault];
        let mut row = [0.0; 7];
        TopK::of(&logits, 2).write(&mut row);
        let from_list = sampler(plain()).sample_top(&TopK::from_row(&row));
        let from_all = sampler(plain()).sample(&mut logits, &[]);
        assert_eq!(
            from_list.unwrap_err().to_string(),
            from_all.unwrap_err().to_string()
        );
    }
}

#[test]
fn sampling_leaves_the_logits_as_they_were() {
    let before = mixed_logits(300, 5);
    for temperature in [0.0, 1.2] {
        let options = SamplingOptions {
            temperature,
            repetition_penalty: 1.7,
            top_k: 20,
            ..plain()
        };
        let mut logits = before.clone();
        sampler(options)
            .sample(&mut logits, &[3, 4, 3, 299])
            .unwrap();
        assert_eq!(logits, before);
    }
}

#[test]
fn the_few_largest_logits_are_those_of_a_full_sort() {
    for salt in 0..20 {
        let logits = mixed_logits(200, salt);
        let mut all: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
        all.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
        for n in [0, 1, 5, 64, 65, 200, 300] {
            let expected = &all[..n.min(all.len())];
            assert_eq!(
                logits::largest_logits(&logits, n),
                expected,
                "{n} of {salt}"
            );
        }
    }
}
