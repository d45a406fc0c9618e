//! The order in which optional features are left out if a device fails its self-test: subgroups, in which drivers
//! differ most, then f16, then both. It opens no device.

use crate::base::error::{Error, Result};
use crate::device::webgpu::adapter::{AdapterFacts, AdapterOptions};
use crate::device::webgpu::kernel_table::OptionalFeatures;

/// A feature that may make a device fail its self-test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Feature {
    Subgroups,
    F16,
}

impl Feature {
    const ALL: [Feature; 2] = [Feature::Subgroups, Feature::F16];

    fn is_in(self, features: OptionalFeatures) -> bool {
        match self {
            Feature::Subgroups => features.subgroups,
            Feature::F16 => features.f16,
        }
    }
}

/// The devices that have failed, and what is left to try.
pub struct FeatureFallback {
    /// The options of the first device.
    options: AdapterOptions,
    /// Never empty after a failure; the first device had all features.
    failed: Vec<(OptionalFeatures, Error)>,
}

impl FeatureFallback {
    pub fn new(options: AdapterOptions) -> FeatureFallback {
        FeatureFallback {
            options,
            failed: Vec::new(),
        }
    }

    /// How to open the next device after the device of `facts` has failed with `fault`.
    ///
    /// # Errors
    /// `fault`, if other kernels would not help or no combination is left.
    pub fn next(&mut self, facts: &AdapterFacts, fault: Error) -> Result<AdapterOptions> {
        // A shader that the browser does not compile is reported as a failure of the device, and one that the driver
        // does not survive as its loss.
        let may_be_a_kernels = matches!(
            fault,
            Error::SelfTest { .. } | Error::Device { .. } | Error::DeviceLost { .. }
        );
        if !may_be_a_kernels {
            return Err(fault);
        }
        self.failed.push((facts.features(), fault.clone()));
        let all = self.failed[0].0;
        let none = OptionalFeatures::default();
        let without_subgroups = OptionalFeatures {
            f16: all.f16,
            ..none
        };
        let without_f16 = OptionalFeatures {
            subgroups: all.subgroups,
            ..none
        };
        let has_failed = |features| self.failed.iter().any(|(failed, _)| *failed == features);
        let forms = [without_subgroups, without_f16, none];
        let next = forms.into_iter().find(|form| !has_failed(*form));
        let next = next.ok_or(fault)?;
        Ok(AdapterOptions {
            no_subgroups: !next.subgroups,
            no_f16: !next.f16,
            ..self.options
        })
    }

    /// The features that are left out if the device of `facts` has passed, each with the last failure of the self-test
    /// while it was in use.
    pub fn dropped(&self, facts: &AdapterFacts) -> Vec<(Feature, Error)> {
        let is_out = |feature: &Feature| !feature.is_in(facts.features());
        let left_out = Feature::ALL.into_iter().filter(is_out);
        let with_fault = left_out.filter_map(|feature| {
            let mut failed = self.failed.iter().rev();
            let (_, fault) = failed.find(|(features, _)| feature.is_in(*features))?;
            Some((feature, fault.clone()))
        });
        with_fault.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(features: OptionalFeatures) -> AdapterFacts {
        AdapterFacts {
            name: String::new(),
            interface: String::new(),
            software: false,
            max_binding_bytes: 0,
            max_workgroup_bytes: 0,
            timestamp_period_ns: None,
            subgroups: features.subgroups,
            f16: features.f16,
        }
    }

    fn features(subgroups: bool, f16: bool) -> OptionalFeatures {
        OptionalFeatures { subgroups, f16 }
    }

    /// The features in use after all failures of an adapter whose devices fail while they use features that `is_wrong`;
    /// `None` for the CPU.
    fn settle(
        available: OptionalFeatures,
        is_wrong: impl Fn(OptionalFeatures) -> bool,
    ) -> Option<(OptionalFeatures, Vec<Feature>)> {
        let mut fallback = FeatureFallback::new(AdapterOptions::default());
        let mut tried = available;
        for n in 0.. {
            if !is_wrong(tried) {
                let dropped = fallback.dropped(&facts(tried)).into_iter();
                return Some((tried, dropped.map(|(feature, _)| feature).collect()));
            }
            let fault = Error::Device {
                fact: n.to_string().into(),
            };
            let options = fallback.next(&facts(tried), fault).ok()?;
            tried = features(
                available.subgroups && !options.no_subgroups,
                available.f16 && !options.no_f16,
            );
        }
        None
    }

    #[test]
    fn a_device_loses_no_feature_that_is_right() {
        use Feature::{F16, Subgroups};
        let all = features(true, true);
        assert_eq!(settle(all, |_| false), Some((all, vec![])));
        let without = settle(all, |used| used.subgroups);
        assert_eq!(without, Some((features(false, true), vec![Subgroups])));
        let without = settle(all, |used| used.f16);
        assert_eq!(without, Some((features(true, false), vec![F16])));
        let without = settle(all, |used| used.f16 || used.subgroups);
        assert_eq!(
            without,
            Some((features(false, false), vec![Subgroups, F16]))
        );
        assert_eq!(settle(all, |_| true), None);
        for only in [features(true, false), features(false, true)] {
            let (rest, dropped) = settle(only, |used| used == only).unwrap();
            assert_eq!((rest, dropped.len()), (features(false, false), 1));
            assert_eq!(settle(only, |_| true), None);
        }
    }

    #[test]
    fn the_fault_of_a_feature_is_one_that_was_found_while_it_was_in_use() {
        let mut fallback = FeatureFallback::new(AdapterOptions::default());
        let fault = |n: u32| Error::Device {
            fact: n.to_string().into(),
        };
        for (n, used) in [
            (0, features(true, true)),
            (1, features(false, true)),
            (2, features(true, false)),
        ] {
            fallback.next(&facts(used), fault(n)).unwrap();
        }
        let dropped = fallback.dropped(&facts(features(false, false)));
        assert_eq!(
            dropped,
            [(Feature::Subgroups, fault(2)), (Feature::F16, fault(1))]
        );
    }

    #[test]
    fn a_failure_that_no_other_kernel_avoids_is_final() {
        let fault = Error::DeviceMemory {
            fact: "full".into(),
        };
        let mut fallback = FeatureFallback::new(AdapterOptions::default());
        let refused = fallback.next(&facts(features(true, true)), fault.clone());
        assert_eq!(refused, Err(fault));
    }
}
