//! What PyTorch computes with what is written here.

use std::process::Command;

#[test]
#[ignore = "needs Python with torch, safetensors and numpy: FNL_TORCH is its path"]
fn factored_layers_compute_in_torch_what_their_product_does() {
    let python = std::env::var_os("FNL_TORCH").expect("FNL_TORCH, the path of a Python with torch");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/loader.py");
    let run =
        Command::new(python).arg(script).arg(env!("CARGO_BIN_EXE_compress")).output().expect("Python starts");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}
