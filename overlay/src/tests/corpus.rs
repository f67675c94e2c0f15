//! The corpus of the fuzz target, replayed: hostile streams by name, and as what each is read.

#[path = "../../fuzz/check.rs"]
mod check;

#[test]
fn every_stream_of_the_corpus_is_read_as_its_name_says() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/question");
    let files: Vec<_> = std::fs::read_dir(corpus).unwrap().collect();
    assert!(files.len() >= 8);
    for file in files {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let read = check::check(&std::fs::read(&path).unwrap());
        assert!(name.starts_with(read), "{name} is read as {read}");
    }
}
