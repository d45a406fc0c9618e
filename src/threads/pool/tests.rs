//! Tests of the thread pool: parts, wake-ups, panics and the number of threads.

use super::*;

#[test]
fn every_part_runs_once_on_any_number_of_threads() {
    for threads in [1, 2, 3, 5] {
        let pool = Pool::new(threads);
        for parts in [1, 2, 7, 64] {
            let mut data = vec![0.0; 3 * parts * 2];
            let stripes = Stripes::of_columns(&mut data, parts * 2, 2);
            pool.run(parts, stripes, |index, mut stripe| {
                for row in 0..3 {
                    stripe
                        .row(row)
                        .iter_mut()
                        .for_each(|v| *v += 1.0 + index as f32);
                }
            });
            for (i, v) in data.iter().enumerate() {
                assert_eq!(*v, 1.0 + (i % (parts * 2) / 2) as f32);
            }
        }
    }
}

#[test]
fn the_last_stripe_may_be_narrow_or_empty() {
    let mut data = vec![0.0; 5];
    let pool = Pool::new(2);
    pool.run(
        4,
        Stripes::of_columns(&mut data, 5, 2),
        |index, mut stripe| {
            assert_eq!(stripe.row(0).len(), [2, 2, 1, 0][index]);
        },
    );
    pool.run(4, Pieces::new(&mut data, 2), |index, piece| {
        assert_eq!(piece.len(), [2, 2, 1, 0][index]);
    });
}

#[test]
fn stripes_in_rows_cover_each_element_once() {
    let (rows, cols) = (7, 5);
    let mut data = vec![0.0; rows * cols];
    let stripes = Stripes::of_columns(&mut data, cols, 2).in_rows(3);
    Pool::new(2).run(9, stripes, |index, mut part| {
        for row in 0..[3, 3, 1][index % 3] {
            let part = part.row(row);
            assert_eq!(part.len(), [2, 2, 1][index / 3]);
            part.iter_mut().for_each(|v| *v += 1.0 + index as f32);
        }
    });
    for (i, v) in data.iter().enumerate() {
        let (row, col) = (i / cols, i % cols);
        assert_eq!(*v, (1 + col / 2 * 3 + row / 3) as f32);
    }
}

#[test]
fn a_job_does_not_wait_for_a_worker_that_never_joins() {
    let mut pool = Pool::new(1);
    // It returns without looking for work. On targets without threads nothing is spawned, and the test holds as
    // well.
    pool.workers.extend(platform::spawn("idle".into(), || ()));
    pool.set_threads(2);
    let mut data = vec![0.0; 64];
    pool.run(64, Pieces::new(&mut data, 1), |_, piece| piece[0] = 1.0);
    assert_eq!(data, [1.0; 64]);
}

#[cfg(not(target_arch = "wasm32"))]
mod threaded {
    use std::collections::HashSet;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Barrier;
    use std::thread::{self, ThreadId, sleep};

    use super::*;

    #[test]
    fn a_polling_or_sleeping_worker_joins_a_job() {
        let pool = Pool::new(2);
        // Neither thread passes the barrier alone, so the test would hang if the worker missed a job.
        let both = Barrier::new(2);
        for pause_us in [0, 20, 45, 50, 55, 100, 500].repeat(40) {
            sleep(Duration::from_micros(pause_us));
            pool.run(2, (), |_, ()| {
                both.wait();
            });
        }
    }

    #[test]
    fn at_most_the_set_number_of_threads_compute() {
        let pool = Pool::new(5);
        for (threads, most) in [(1, 1), (2, 2), (3, 3), (9, 5), (0, 1)] {
            pool.set_threads(threads);
            assert_eq!(pool.threads(), most);
            for _ in 0..10 {
                let seen: Mutex<HashSet<ThreadId>> = Mutex::default();
                pool.run(16, (), |_, ()| {
                    seen.lock().unwrap().insert(thread::current().id());
                    // Long enough for every permitted worker to join.
                    sleep(Duration::from_micros(100));
                });
                assert!(seen.into_inner().unwrap().len() <= most);
            }
        }
    }

    #[test]
    fn a_panic_on_any_thread_reaches_the_caller_and_the_pool_stays_usable() {
        let pool = Pool::new(2);
        let caller = thread::current().id();
        for on_worker in [true, false] {
            let both = Barrier::new(2);
            let run = AssertUnwindSafe(|| {
                pool.run(2, (), |_, ()| {
                    both.wait();
                    let is_worker = thread::current().id() != caller;
                    assert_ne!(is_worker, on_worker, "meant to fail");
                });
            });
            assert!(catch_unwind(run).is_err());
            let mut data = vec![0.0; 2];
            pool.run(2, Pieces::new(&mut data, 1), |_, piece| piece[0] = 1.0);
            assert_eq!(data, [1.0, 1.0]);
        }
    }

    #[test]
    fn every_part_runs_once_with_more_threads_than_cores() {
        let pool = Pool::new(64);
        for parts in (1..200).rev() {
            let mut data = vec![0.0; parts];
            pool.run(parts, Pieces::new(&mut data, 1), |index, piece| {
                piece[0] += index as f32;
            });
            assert!(data.iter().enumerate().all(|(i, v)| *v == i as f32));
        }
    }
}
