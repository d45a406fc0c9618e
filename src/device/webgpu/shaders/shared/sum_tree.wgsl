// Sum over the threads of a workgroup by a tree reduction in workgroup memory. The kernel defines `SUMS`, the number of
// vectors to sum. Same interface as `sum_subgroups.wgsl`.
alias Sums = array<vec4<f32>, SUMS>;

struct Thread {
    @builtin(local_invocation_index) lane: u32,
}

var<workgroup> partial: array<Sums, THREADS>;

// Call once per kernel, from all threads.
fn sum_over_workgroup(thread: Thread, own: Sums) -> Sums {
    partial[thread.lane] = own;
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if thread.lane < half {
            // unroll
            for (var i = 0u; i < SUMS; i++) {
                partial[thread.lane][i] += partial[thread.lane + half][i];
            }
        }
    }
    workgroupBarrier();
    return partial[0];
}
