// Sum over the threads of a workgroup by subgroups: one barrier instead of seven. Same interface as `sum_tree.wgsl`.
// Correct for every subgroup size and every mapping of threads to subgroups: the first lane of each subgroup stores its
// subgroup's sum at its own index, all other lanes store zeros, then every subgroup sums the whole array.
alias Sums = array<vec4<f32>, SUMS>;

struct Thread {
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
    @builtin(subgroup_size) subgroup_size: u32,
}

var<workgroup> partial: array<Sums, THREADS>;

// Call once per kernel, from all threads.
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
