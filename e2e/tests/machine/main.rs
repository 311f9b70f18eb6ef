//! The reach of a run in a machine: every test is a program inside a real guest.

mod abuse;
mod basics;
mod bridged;
mod examples;
mod freshness;
mod hostile_output;
mod network;
mod root;
mod secrets;
mod tools;
mod workspace;

use std::process::ExitCode;

fn main() -> ExitCode {
    agentvm_e2e::on_one_host(&agentvm_e2e::scenarios![
        // The long scenarios come first.
        bridged::without_a_server_a_pool_says_so_and_lends_nothing,
        bridged::a_machine_on_a_bridge_has_what_its_server_gives_it,
        network::what_is_denied_is_told,
        network::what_is_denied_by_ipv6_is_told,
        hostile_output::a_full_share_is_the_guests_problem_alone,
        hostile_output::more_files_than_are_taken_are_too_many,
        abuse::a_memory_hog_is_killed_and_the_result_is_right,
        abuse::a_hog_that_is_a_child_leaves_its_parent_alone,
        abuse::a_fork_bomb_ends_at_its_deadline,
        abuse::processes_and_threads_are_bounded,
        abuse::a_hundred_megabytes_of_output_are_cut_and_said_to_be,
        abuse::what_ignores_sigterm_is_killed_in_time,
        abuse::closed_stdio_is_no_obstacle,
        abuse::output_that_is_not_text_is_kept_byte_by_byte,
        abuse::a_daemon_that_holds_stdout_does_not_hold_the_run,
        abuse::an_agent_that_kills_all_it_can_reach_harms_itself_alone,
        abuse::a_signal_is_reported_by_its_number,
        examples::each_example_ends_as_it_says,
        tools::code_and_its_files_are_one_project,
        tools::git_works_everywhere_for_both_users,
        tools::a_process_owns_its_streams,
        tools::a_sandbox_of_ones_own_has_a_fresh_proc,
        tools::a_command_has_its_files_beside_it,
        tools::the_guide_states_the_versions,
        root::root_that_kills_all_it_can_reach_harms_itself_alone,
        root::root_reaches_nothing_of_the_agents,
        hostile_output::nothing_but_plain_files_is_taken,
        hostile_output::a_sparse_terabyte_is_too_large,
        hostile_output::one_byte_too_many_is_too_large,
        secrets::a_secret_is_in_the_machines_memory_and_nowhere_else,
        workspace::input_can_be_read_and_not_written,
        workspace::only_what_is_asked_for_is_taken,
        workspace::permissions_to_execute_survive,
        workspace::a_long_stream_keeps_its_beginning_and_its_true_end,
        workspace::empty_folders_are_kept_and_holes_stay_holes,
        workspace::a_file_that_was_removed_while_open_is_ordinary_in_work,
        freshness::what_one_run_leaves_no_other_finds,
        freshness::two_machines_are_two,
        freshness::two_runs_on_one_machine_are_two,
        freshness::a_run_tells_what_its_machine_was_proven_by,
        freshness::the_clock_is_the_hosts,
        basics::three_languages_are_there,
        basics::the_tools_of_an_agent_are_there,
        basics::environment_and_stdin_reach_the_program,
        basics::a_program_that_is_not_there_is_reported_as_a_shell_would,
    ])
}
