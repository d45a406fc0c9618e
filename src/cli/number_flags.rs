//! The flags of the options that are numbers, one per line of the table in `src/text/sampling/options.rs`. They are not
//! fields of a struct, so that a new option needs no change here.

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, value_parser};
use zamba2::base::error::Error;
use zamba2::session::GenerateOptions;
use zamba2::text::sampling::{NUMBER_OPTIONS, NumberOption};

/// A value per option of [`NUMBER_OPTIONS`], in the same order.
pub struct NumberFlags(Vec<f64>);

impl NumberFlags {
    /// # Errors
    /// [`Error::Setting`] for the first value that is out of range.
    pub fn apply(&self, options: &mut GenerateOptions) -> Result<(), Error> {
        let mut values = NUMBER_OPTIONS.iter().zip(&self.0);
        values.try_for_each(|(option, &value)| options.set(option, value))
    }
}

/// Ranges are checked later, by the library, whose errors have a code and a next step.
fn flag(option: &NumberOption) -> Arg {
    let flag = Arg::new(option.name)
        .long(option.name.replace('_', "-"))
        .value_name(option.value_name)
        // As in the help that clap makes from a doc comment.
        .help(option.doc.trim_end_matches('.'))
        .default_value(option.default.to_string());
    match option.is_integer {
        true => flag.value_parser(value_parser!(u64)),
        false => flag
            .value_parser(value_parser!(f64))
            .allow_negative_numbers(true),
    }
}

impl Args for NumberFlags {
    fn augment_args(command: Command) -> Command {
        command.args(NUMBER_OPTIONS.iter().map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        NumberFlags::augment_args(command)
    }
}

impl FromArgMatches for NumberFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let value = |option: &NumberOption| match option.is_integer {
            true => matches.get_one::<u64>(option.name).map(|&n| n as f64),
            false => matches.get_one::<f64>(option.name).copied(),
        };
        let values = NUMBER_OPTIONS.iter().map(value);
        let values: Option<Vec<f64>> = values.collect();
        Ok(NumberFlags(values.expect("every flag has a default")))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = NumberFlags::from_arg_matches(matches)?;
        Ok(())
    }
}
