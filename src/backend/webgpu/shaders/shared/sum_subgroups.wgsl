// The sum over all threads of a workgroup by subgroups, the twin of `sum_tree.wgsl`. Right for any size of subgroup and
// for any way in which threads are dealt to them: one thread of each leaves its subgroup's sum at its own place, the
// others leave zeros, and then every subgroup adds up all places.
const THREADS = 64u;
alias Sums = array<vec4<f32>, SUMS>;

struct Thread {
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
    @builtin(subgroup_size) subgroup_size: u32,
}

var<workgroup> partial: array<Sums, THREADS>;

// To be called once and by all threads.
fn sum_over_workgroup(thread: Thread, own: Sums) -> Sums {
    let is_first = thread.subgroup_lane == 0u;
    for (var i = 0u; i < SUMS; i++) {
        let sum = subgroupAdd(own[i]);
        partial[thread.lane][i] = select(vec4<f32>(), sum, is_first);
    }
    workgroupBarrier();
    var totals: Sums;
    for (var at = thread.subgroup_lane; at < THREADS; at += thread.subgroup_size) {
        for (var i = 0u; i < SUMS; i++) {
            totals[i] += partial[at][i];
        }
    }
    for (var i = 0u; i < SUMS; i++) {
        totals[i] = subgroupAdd(totals[i]);
    }
    return totals;
}
