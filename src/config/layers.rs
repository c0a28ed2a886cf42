//! The layers of a configuration, laid over each other as text by path.
//!
//! Environment and flags know text alone, so every layer is text here and is typed once, by [`Layers::read`]. The paths that
//! exist are those of the documented defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::effective::Effective;
use super::mistakes::{ConfigError, Mistake, Source, Wrong};

const FILE: &str = "longshore.toml";
const PREFIX: &str = "LONGSHORE_";
/// Read by the clients among our commands, not part of the configuration.
const OF_CLIENTS: [&str; 2] = ["LONGSHORE_TOKEN", "LONGSHORE_SERVER"];
const HIDDEN: &str = "(hidden)";
const SECRETS: [&str; 3] = ["bootstrap_token", "inbox_secret", "local_bucket.secret_access_key"];

/// Settings by path, and what was wrong so far.
pub(super) struct Layers {
    settings: BTreeMap<String, Setting>,
    mistakes: Vec<Mistake>,
}

/// One value as text.
#[derive(Clone, Debug)]
struct Setting {
    text: String,
    default: String,
    source: Source,
}

impl Layers {
    /// The lowest layer, and the paths that there are.
    pub(super) fn of_defaults() -> Self {
        let table: toml::Table = super::DEFAULTS.parse().expect("ops/longshore.toml is TOML, a test says so");
        let setting = |text: String| Setting { default: text.clone(), text, source: Source::Default };
        let settings = leaves(&table)
            .into_iter()
            .map(|(path, value)| (path, setting(text_of(&value).expect("the defaults are texts and numbers"))))
            .collect();
        Self { settings, mistakes: Vec::new() }
    }

    /// The named file, which must be there, or else `longshore.toml`, which may.
    pub(super) fn add_file(&mut self, named: Option<PathBuf>) {
        let must_exist = named.is_some();
        let path = named.unwrap_or_else(|| FILE.into());
        match std::fs::read_to_string(&path) {
            Ok(text) => self.add_toml(&path, &text),
            Err(error) if !must_exist && error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                let wrong = Wrong::new(format!("cannot be read ({error})"), "name a file that can, or leave it out");
                self.whole_file(&path, wrong);
            }
        }
    }

    fn add_toml(&mut self, path: &Path, text: &str) {
        let source = Source::File(path.to_owned());
        let table: toml::Table = match text.parse() {
            Ok(table) => table,
            Err(error) => {
                return self.whole_file(path, Wrong::new(broken_toml(text, &error), "mend the syntax there"));
            }
        };
        for (path, value) in leaves(&table) {
            match text_of(&value) {
                Some(text) => self.set(path, text, source.clone()),
                None if self.settings.contains_key(&path) => {
                    let wrong = Wrong::new("is neither text nor a number", "write it as in ops/longshore.toml");
                    self.mistakes.push(Mistake { source: source.clone(), path, text: None, wrong });
                }
                None => self.set(path, String::new(), source.clone()),
            }
        }
    }

    /// The variables that are ours.
    pub(super) fn add_environment(&mut self, mut variables: Vec<(String, String)>) {
        variables.sort();
        for (name, value) in variables {
            let Some(rest) = name.strip_prefix(PREFIX).filter(|_| !OF_CLIENTS.contains(&name.as_str())) else {
                continue;
            };
            let path = rest.to_ascii_lowercase().replace("__", ".");
            self.set(path, value, Source::Environment(name));
        }
    }

    /// What the command line says.
    pub(super) fn add_flags(&mut self, flags: Vec<(String, String)>) {
        for (path, value) in flags {
            self.set(path, value, Source::Flag);
        }
    }

    fn set(&mut self, path: String, text: String, source: Source) {
        if let Some(setting) = self.settings.get_mut(&path) {
            setting.text = text;
            setting.source = source;
            return;
        }
        let wrong = Wrong::new("is not a setting", self.nearest(&path));
        self.mistakes.push(Mistake { source, path, text: None, wrong });
    }

    /// What to write instead of a path that does not exist.
    fn nearest(&self, path: &str) -> String {
        let near = self.settings.keys().min_by_key(|known| distance(known, path));
        match near.filter(|known| distance(known, path) <= 3) {
            Some(known) => format!("did you mean {known}?"),
            None => "remove it, or see ops/longshore.toml for those that exist".to_owned(),
        }
    }

    /// The typed value at a path that exists. When the text will not do, that is noted and the default taken, so that
    /// reading goes on to the next mistake.
    pub(super) fn read<T>(&mut self, path: &str, parse: impl Fn(&str) -> Result<T, Wrong>) -> T {
        let setting = self.settings.get(path).expect("what is read is documented, a test says so").clone();
        parse(setting.text.trim()).unwrap_or_else(|wrong| {
            self.fault(path, wrong);
            parse(&setting.default).unwrap_or_else(|_| panic!("the default of {path} is valid, a test says so"))
        })
    }

    /// Notes that the setting will not do.
    pub(super) fn fault(&mut self, path: &str, wrong: Wrong) {
        let Some(setting) = self.settings.get(path) else { return };
        let shown = !SECRETS.contains(&path) && !setting.text.is_empty();
        let text = shown.then(|| masked(path, &setting.text));
        self.mistakes.push(Mistake { source: setting.source.clone(), path: path.to_owned(), text, wrong });
    }

    /// Shows a setting that was left empty as what it came to mean.
    pub(super) fn resolve(&mut self, path: &str, meaning: &impl fmt::Display) {
        if let Some(setting) = self.settings.get_mut(path) {
            setting.text = meaning.to_string();
        }
    }

    /// Whether any layer above the defaults sets it.
    pub(super) fn is_chosen(&self, path: &str) -> bool {
        self.settings.get(path).is_some_and(|setting| setting.source != Source::Default)
    }

    /// The paths that start with a prefix.
    pub(super) fn paths_below(&self, prefix: &str) -> Vec<String> {
        self.settings.keys().filter(|path| path.starts_with(prefix)).cloned().collect()
    }

    /// The settings as they are to be shown.
    pub(super) fn effective(&self) -> Effective {
        let shown = |path: &String, setting: &Setting| {
            let hidden = SECRETS.contains(&path.as_str()) && !setting.text.is_empty();
            if hidden { HIDDEN.to_owned() } else { masked(path, &setting.text) }
        };
        let settings = self.settings.iter();
        Effective::new(settings.map(|(path, s)| (path.clone(), shown(path, s), s.source.clone())).collect())
    }

    /// Ends in every mistake there was.
    pub(super) fn finish(self) -> Result<(), ConfigError> {
        if self.mistakes.is_empty() { Ok(()) } else { Err(ConfigError { mistakes: self.mistakes }) }
    }

    fn whole_file(&mut self, path: &Path, wrong: Wrong) {
        let source = Source::File(path.to_owned());
        self.mistakes.push(Mistake { source, path: String::new(), text: None, wrong });
    }
}

/// What the parser says and where, without the line itself: it may hold a secret.
fn broken_toml(text: &str, error: &toml::de::Error) -> String {
    let start = error.span().map_or(0, |span| span.start).min(text.len());
    let line = text.as_bytes()[..start].iter().filter(|&&byte| byte == b'\n').count() + 1;
    let told = error.message().lines().next().unwrap_or_default();
    format!("is not TOML (line {line}: {told})")
}

/// A setting's text as it may be shown: a URL without user and password, wherever it carries them. Paths have neither.
pub(super) fn masked(path: &str, text: &str) -> String {
    let is_path = text.starts_with("sqlite:") || text.starts_with("file:");
    if is_path || !path.ends_with("_url") {
        return text.to_owned();
    }
    let text = text.find("password=").map_or(text.to_owned(), |at| format!("{}password={HIDDEN}", &text[..at]));
    let Some(at) = text.rfind('@') else {
        return text;
    };
    let scheme = text.find("://").map_or("", |end| &text[..end + 3]);
    format!("{scheme}{HIDDEN}{}", &text[at..])
}

/// Every value that is not a table, with its path.
fn leaves(table: &toml::Table) -> Vec<(String, toml::Value)> {
    let mut found = Vec::new();
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => {
                found.extend(leaves(inner).into_iter().map(|(path, value)| (format!("{key}.{path}"), value)));
            }
            other => found.push((key.clone(), other.clone())),
        }
    }
    found
}

fn text_of(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// How many letters must change to make one word of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_met_with_the_right_word() {
        let layers = Layers::of_defaults();
        assert_eq!(layers.nearest("limits.maxsize"), "did you mean limits.max_size?");
        assert!(layers.nearest("something.else").starts_with("remove it"));
    }

    #[test]
    fn users_and_passwords_of_urls_are_masked() {
        for (text, expected) in [
            ("postgres://me:secret@db:5432/l", "postgres://(hidden)@db:5432/l"),
            ("postgres://me:se/cr@et@db/l", "postgres://(hidden)@db/l"),
            ("redis:secret@db", "(hidden)@db"),
            ("postgres://db/l?user=me&password=secret", "postgres://db/l?user=me&password=(hidden)"),
            ("s3://name", "s3://name"),
            ("sqlite://a@b/c.db", "sqlite://a@b/c.db"),
        ] {
            assert_eq!(masked("database_url", text), expected);
        }
        assert_eq!(masked("data_dir", "a@b"), "a@b");
    }

    #[test]
    fn distances_are_those_of_levenshtein() {
        for (a, b, expected) in [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("listen", "lisen", 1)] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
