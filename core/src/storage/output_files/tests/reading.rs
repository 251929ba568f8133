//! How much is read of what belongs to others.

use super::*;
use crate::ports::{Disk, DiskFile};
use std::sync::atomic::{AtomicU64, Ordering};

/// A disk that counts the bytes that are read.
struct Counting {
    disk: MemoryDisk,
    read_bytes: Arc<AtomicU64>,
}

struct CountingFile(Arc<dyn DiskFile>, Arc<AtomicU64>);

impl Disk for Counting {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(CountingFile(self.disk.create(name)?, Arc::clone(&self.read_bytes))))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(CountingFile(self.disk.open(name)?, Arc::clone(&self.read_bytes))))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.disk.list(folder)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        self.disk.sync_folder(folder)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}

impl DiskFile for CountingFile {
    fn len_bytes(&self) -> io::Result<u64> {
        self.0.len_bytes()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read_at(offset, buffer)?;
        self.1.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

#[test]
fn what_belongs_to_others_is_passed_over_unread() {
    let read_bytes = Arc::new(AtomicU64::new(0));
    let disk =
        Arc::new(Counting { disk: MemoryDisk::default(), read_bytes: Arc::clone(&read_bytes) });
    let mut options_of_segments = SegmentsOptions::new([7; 16]);
    options_of_segments.segment_bytes = 16 << 20;
    let segments = Segments::open(Arc::clone(&disk) as Arc<dyn Disk>, options_of_segments);
    let recovery =
        OutputFiles::recover(&*disk, Arc::new(segments.unwrap()), &options(1, None)).unwrap();
    let mut files = recovery.files;
    files.admit(A, ALL);
    files.admit(B, ALL);
    // 100 small blocks, and 24 MiB of another namespace's between them.
    for position in 0..100 {
        files.append(&records(A, &[position], 10), 0).unwrap();
        files.append(&records(B, &[position], 240 << 10), 0).unwrap();
    }
    files.write().unwrap();
    files.sync().unwrap();
    let chunks = files.reader().lock().chunk_count();
    assert!(chunks < 200, "{chunks} chunks for 200 blocks");
    read_bytes.store(0, Ordering::Relaxed);
    let blocks = files.read(A, Cursor(BASE), usize::MAX).unwrap();
    assert_eq!(blocks.len(), 100);
    let read = read_bytes.load(Ordering::Relaxed);
    assert!(read <= 200 * (4 << 10), "{read} bytes were read");
    // The last one is found without a walk through what is before.
    read_bytes.store(0, Ordering::Relaxed);
    let after = Cursor(files.latest().0 - 3);
    assert_eq!(files.read(A, after, usize::MAX).unwrap().len(), 1);
    let read = read_bytes.load(Ordering::Relaxed);
    assert!(read <= 16 << 10, "{read} bytes were read");
}
