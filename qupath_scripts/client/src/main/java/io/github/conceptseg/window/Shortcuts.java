package io.github.conceptseg.window;

import java.util.Map;
import javafx.scene.Scene;
import javafx.scene.control.ComboBoxBase;
import javafx.scene.control.TextInputControl;
import javafx.scene.input.KeyCode;
import javafx.scene.input.KeyCombination;
import javafx.scene.input.KeyCodeCombination;
import javafx.scene.input.KeyEvent;

/** The keys of the review window: single letters and digits, except where text is typed, and QuPath's undo. */
final class Shortcuts {
    private static final KeyCombination UNDO = new KeyCodeCombination(KeyCode.Z, KeyCombination.SHORTCUT_DOWN);
    private static final KeyCombination REDO =
        new KeyCodeCombination(KeyCode.Z, KeyCombination.SHORTCUT_DOWN, KeyCombination.SHIFT_DOWN);

    private final ReviewWindow window;
    private final Map<KeyCode, Runnable> letters;

    Shortcuts(ReviewWindow window) {
        this.window = window;
        letters = Map.of(
            KeyCode.N, window::next,
            KeyCode.P, window::previous,
            KeyCode.S, window::selectAll,
            KeyCode.H, window::showOrHide,
            KeyCode.A, window::accept,
            KeyCode.R, window::reject,
            KeyCode.C, window::clear);
    }

    void install(Scene scene) {
        scene.addEventFilter(KeyEvent.KEY_PRESSED, event -> {
            if (!isTyping(scene) && handle(event)) {
                event.consume();
            }
        });
    }

    private boolean handle(KeyEvent event) {
        Runnable action;
        if (UNDO.match(event)) {
            action = window::undo;
        } else if (REDO.match(event)) {
            action = window::redo;
        } else if (event.isShortcutDown() || event.isAltDown() || event.isControlDown() || event.isMetaDown()) {
            action = null;
        } else if (event.getCode().isDigitKey()) {
            // "Numpad 7" or "7"
            String key = event.getCode().getName();
            action = () -> window.reassign(Character.digit(key.charAt(key.length() - 1), 10));
        } else {
            action = letters.get(event.getCode());
        }
        if (action != null) {
            action.run();
        }
        return action != null;
    }

    private static boolean isTyping(Scene scene) {
        return scene.getFocusOwner() instanceof TextInputControl
            || scene.getFocusOwner() instanceof ComboBoxBase<?> box && box.isEditable();
    }
}
