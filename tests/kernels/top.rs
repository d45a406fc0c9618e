//! What is chosen from logits: the largest, a drawn token, its embedding.

use crate::cases::*;
use crate::kernels::cpu;

#[test]
fn top_gives_the_largest_logits_in_order_and_the_softmax_sum() {
    let ops = &mut cpu(1);
    for_top_cases(|case| check_top(case, &top(ops, &case.logits, case.k)));
}

#[test]
fn penalise_changes_the_logits_of_the_history_and_of_the_chosen_token() {
    let ops = &mut cpu(1);
    for_penalty_cases(|what, logits, history, penalty| {
        let got = penalise(ops, logits, history, penalty);
        check_penalised(what, logits, history, penalty, &got);
    });
}

#[test]
fn top_names_the_first_logit_that_is_not_finite() {
    let ops = &mut cpu(1);
    for_fault_cases(|what, logits, token| {
        check_fault(what, logits, token, &top(ops, logits, 3));
    });
}

#[test]
fn draw_gives_the_token_of_the_definition_at_every_setting() {
    let ops = &mut cpu(1);
    for_draw_cases(|case| assert_eq!(draw(ops, case), case.expected, "{}", case.what));
}

#[test]
fn embed_top_gives_the_embedding_of_the_first_token_of_a_top_k_list() {
    let ops = &mut cpu(1);
    for_embed_cases(|what, table| {
        for token in TOKENS {
            assert_eq!(
                embed_top(ops, table, token),
                embed(ops, table, &[token]),
                "{what} {token}"
            );
        }
    });
}
