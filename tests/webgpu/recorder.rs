//! Submissions: the order of recorded ops, bind groups, and the times of spans.

use pollster::block_on;
use zamba2::base::quant::WeightFormat;
use zamba2::device::webgpu::AdapterOptions;
use zamba2::ops::Ops;
use zamba2::ops::device::Device;
use zamba2::ops::trace::{Level, ModuleId};

use super::{device, on_device};
use crate::cases::*;

/// Dispatches recorded before a write read the old numbers, later ones the new.
#[test]
fn clear_copy_and_write_take_effect_in_the_order_of_the_calls() {
    on_device("order", |device| {
        let mut x = rows(device, 2, &[1.0, 2.0, 3.0, 4.0]);
        let (mut before, mut after, mut cleared) = (
            device.tensor(2, 2),
            device.tensor(2, 2),
            device.tensor(2, 2),
        );
        device.copy(&x, &mut before);
        device.write(&[5.0, 6.0, 7.0, 8.0], &mut x);
        device.copy(&x, &mut after);
        device.clear(&mut x);
        device.copy(&x, &mut cleared);
        assert_eq!(read(device, &before), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(read(device, &after), [5.0, 6.0, 7.0, 8.0]);
        assert_eq!(read(device, &cleared), [0.0; 4]);
    });
}

/// The memory of a dropped tensor is given back when nothing recorded uses it any more.
#[test]
fn ops_on_a_tensor_that_is_dropped_after_them_still_run() {
    on_device("dropped", |device| {
        let x = rows(device, 2, &[1.0, 2.0, 3.0, 4.0]);
        let mut y = device.tensor(2, 2);
        device.copy(&x, &mut y);
        drop(x);
        let z = rows(device, 2, &[5.0; 4]);
        device.flush();
        drop(z);
        let mut w = device.tensor(2, 2);
        device.copy(&y, &mut w);
        drop(y);
        assert_eq!(read(device, &w), [1.0, 2.0, 3.0, 4.0]);
        device.check().unwrap();
    });
}

#[test]
fn a_step_that_repeats_makes_no_new_bind_group_and_one_submission() {
    on_device("steps", |device| {
        let mut y = device.tensor(1, 5);
        let (a, b) = (rows(device, 5, &[1.0; 5]), rows(device, 5, &[2.0; 5]));
        device.add(MODULE, &a, &b, &mut y);
        device.flush();
        let first = device.device().counts();
        for _ in 0..3 {
            device.add(MODULE, &a, &b, &mut y);
        }
        device.flush();
        let then = device.device().counts();
        assert_eq!(then.dispatches - first.dispatches, 3);
        assert_eq!(then.submissions - first.submissions, 1);
        assert_eq!(then.bind_groups_made, first.bind_groups_made);
    });
}

/// The first limit is 20 GFLOP, and it doubles at most each time that work has finished.
#[test]
fn work_beyond_the_limit_of_a_submission_is_in_another_one() {
    on_device("long work", |device| {
        let x = rows(device, 5, &[1.0; 5]);
        let mut y = device.tensor(1, 5);
        let before = device.device().counts().submissions;
        for n_submitted in 0..4_u32 {
            let flops = 2e10 * f64::from(1 << n_submitted);
            device.device_mut().note_work(flops);
            device.add(MODULE, &x, &x, &mut y);
            let submissions = device.device().counts().submissions - before;
            assert_eq!(submissions, u64::from(n_submitted));
        }
        block_on(device.device_mut().ready());
        assert_eq!(read(device, &y), [2.0; 5]);
    });
}

/// Both ways of timing: timestamp queries, where the device has them, and waiting for each span.
#[test]
fn every_span_has_the_time_of_its_work_and_lies_within_its_parent() {
    for no_timestamps in [false, true] {
        let options = AdapterOptions {
            no_timestamps,
            ..AdapterOptions::default()
        };
        let Some(device) = device("spans", options) else {
            return;
        };
        let device = &mut Ops::new(device);
        assert!(!no_timestamps || device.device().adapter().timestamp_period_ns.is_none());
        let weight = Random(17).matrix(WeightFormat::Q4, 512, 512);
        let layer = linear(device, &weight, None);
        device.profiler().set_level(Level::Module);
        device.profiler().set_modules(["op", "layers.0"]);
        let x = rows(device, 512, &[1.0; 512]);
        let (mut y, mut z) = (device.tensor(1, 512), device.tensor(1, 512));
        device.scope(ModuleId(1), |device| {
            device.linear(&layer, &x, &mut y);
            device.add(MODULE, &x, &y, &mut z);
        });
        assert_eq!(read(device, &z).len(), 512);
        let profile = device.profiler().take();
        assert_eq!(profile.parent, [-1, 0, 0]);
        assert_eq!(profile.flops, [0.0, 2.0 * 512.0 * 512.0, 0.0]);
        let end_us = |i: usize| profile.start_us[i] + f64::from(profile.duration_us[i]);
        for i in 0..3 {
            assert!(profile.duration_us[i] > 0.0, "{profile:?}");
            // A duration is f32, and its end carries the rounding.
            assert!(profile.start_us[i] >= profile.start_us[0], "{profile:?}");
            assert!(end_us(i) <= end_us(0) + 0.01, "{profile:?}");
        }
    }
}
