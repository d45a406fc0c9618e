// The sum over all threads of a workgroup, through its memory. `SUMS` and what is summed are the kernel's own.
const THREADS = 64u;
alias Sums = array<vec4<f32>, SUMS>;

struct Thread {
    @builtin(local_invocation_index) lane: u32,
}

var<workgroup> partial: array<Sums, THREADS>;

// To be called once and by all threads.
fn sum_over_workgroup(thread: Thread, own: Sums) -> Sums {
    partial[thread.lane] = own;
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if thread.lane < half {
            for (var i = 0u; i < SUMS; i++) {
                partial[thread.lane][i] += partial[thread.lane + half][i];
            }
        }
    }
    workgroupBarrier();
    return partial[0];
}
