//! GPUs of this host, as the kernel's drivers tell them. No vendor's library is asked (NVML): it would be loaded into
//! the daemon, may hang with its driver, and adds only the memory of a card, which nothing but `gpu_mem` needs. Where
//! drivers do not tell, `gpus` in `queued.toml` does.

use super::proc::text;
use libqueue::wire::Gpu;
use std::fs;
use std::path::{Path, PathBuf};

/// Longest name told.
const NAME_MAX: usize = 48;

/// Those that are there. `root` is `/`, but for tests.
pub(super) fn find(root: &Path) -> Vec<Gpu> {
    let mut gpus: Vec<Gpu> = entries(&root.join("proc/driver/nvidia/gpus"))
        .iter()
        .filter_map(|dir| nvidia(&text(&dir.join("information"))))
        .collect();
    let own_driver = !gpus.is_empty();
    for card in entries(&root.join("sys/class/drm")) {
        let name = card.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let number = name.strip_prefix("card").unwrap_or_default();
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        let device = card.join("device");
        match text(&device.join("vendor")).trim() {
            "0x1002" => gpus.extend(rendering(&device, "AMD")),
            // Without the maker's driver; with it, it was found above.
            "0x10de" if !own_driver => gpus.extend(rendering(&device, "NVIDIA")),
            _ => {}
        }
    }
    gpus
}

/// What is in a directory, in order.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .collect();
    all.sort();
    all
}

fn nvidia(information: &str) -> Option<Gpu> {
    let model = information.lines().find_map(|l| l.strip_prefix("Model:"))?;
    Some(Gpu {
        name: plain(model),
        mem: 0,
    })
}

/// A card that can compute: one with a render device. Some only drive a screen, as those of a server's console.
fn rendering(device: &Path, vendor: &str) -> Option<Gpu> {
    let nodes = entries(&device.join("drm"));
    let is_render = |p: &PathBuf| {
        p.file_name()
            .is_some_and(|n| n.as_encoded_bytes().starts_with(b"renderD"))
    };
    nodes.iter().find(|p| is_render(p))?;
    let said = plain(&text(&device.join("product_name")));
    let name = match said.is_empty() {
        true => plain(&format!("{vendor} {}", text(&device.join("device")).trim())),
        false => said,
    };
    let mem = text(&device.join("mem_info_vram_total"));
    Some(Gpu {
        name,
        mem: mem.trim().parse().unwrap_or(0),
    })
}

fn plain(name: &str) -> String {
    let name = name.trim().chars().filter(|c| (' '..='~').contains(c));
    name.take(NAME_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_that_compute() {
        let root = std::env::temp_dir().join(format!("queued-gpu-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let file = |name: &str, content: &str| {
            let f = root.join(name);
            fs::create_dir_all(f.parent().unwrap()).unwrap();
            fs::write(f, content).unwrap();
        };
        assert!(find(&root).is_empty());
        // A card for the console; one of AMD's; one of NVIDIA's with the free driver; a connector.
        file("sys/class/drm/card0/device/vendor", "0x1a03\n");
        file("sys/class/drm/card0/device/drm/renderD127/dev", "");
        file("sys/class/drm/card1/device/vendor", "0x1002\n");
        file("sys/class/drm/card1/device/device", "0x740f\n");
        file("sys/class/drm/card1/device/mem_info_vram_total", "68702699520\n");
        file("sys/class/drm/card1/device/drm/renderD128/dev", "");
        file("sys/class/drm/card1-DP-1/device/vendor", "0x1002\n");
        file("sys/class/drm/card2/device/vendor", "0x10de\n");
        file("sys/class/drm/card2/device/drm/renderD129/dev", "");
        file("sys/class/drm/card3/device/vendor", "0x1002\n");
        let names = |g: &[Gpu]| g.iter().map(|g| g.name.clone()).collect::<Vec<_>>();
        let gpus = find(&root);
        assert_eq!(names(&gpus), ["AMD 0x740f", "NVIDIA"]);
        assert_eq!(gpus[0].mem, 68_702_699_520);
        file("sys/class/drm/card1/device/product_name", "Instinct MI210\n");
        file(
            "proc/driver/nvidia/gpus/0000:01:00.0/information",
            "Model: \t\t NVIDIA A100-SXM4-80GB\nIRQ:   \t\t 10\n",
        );
        assert_eq!(names(&find(&root)), ["NVIDIA A100-SXM4-80GB", "Instinct MI210"]);
        fs::remove_dir_all(&root).unwrap();
    }
}
